"""Geography and time: what waiting is worth, and the hours on top of the map.

Every hour of 2022 in the grid zones with a Google region, average intensity; requests of an hour or
less, which may wait up to a window; no limit on capacity. No paper prints this table: it puts the
deferral windows that providers sell beside the choice of place.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from router.lab.replicate.inputs import NOTICE, Floats, Literature
from router.lab.replicate.paper import PaperTable, Replication, paper_row

WINDOWS_H: Final = (1, 2, 8, 24)
LIMITS_MS: Final = (50.0, 100.0, 150.0)
_ON_TOP_H: Final = (2, 8, 24)
_DAY_H: Final = 24


def inner_hours(g_per_kwh: Floats) -> Floats:
    """The hours (m, zones) that have a day before them and the longest window after them."""
    return g_per_kwh[_DAY_H : len(g_per_kwh) - _DAY_H - 1]


def ahead(g_per_kwh: Floats, window_h: int) -> Floats:
    """For each of `inner_hours`, the hour and those after it (window_h + 1, m, zones)."""
    count = len(inner_hours(g_per_kwh))
    return np.stack(
        [g_per_kwh[_DAY_H + wait : _DAY_H + wait + count] for wait in range(window_h + 1)]
    )


def best_ahead(g_per_kwh: Floats, window_h: int) -> Floats:
    """The cleanest hour within the window (m, zones), all known in advance."""
    return np.asarray(ahead(g_per_kwh, window_h).min(axis=0))


def persistent_ahead(g_per_kwh: Floats, window_h: int) -> Floats:
    """What the hour emits (m, zones) that is picked by the same hours of the day before; the
    current one is known. ``window_h``: a day at most, beyond which the day before is not known.
    """
    really = ahead(g_per_kwh, window_h)
    count = really.shape[1]
    believed = np.stack([g_per_kwh[wait : wait + count] for wait in range(window_h + 1)])
    believed[0] = really[0]
    picked = believed.argmin(axis=0)
    return np.asarray(np.take_along_axis(really, picked[None], axis=0)[0])


def place_first(
    g_per_kwh: Floats, rtt_ms: Floats, limit_ms: float, windows_h: tuple[int, ...] = _ON_TOP_H
) -> tuple[float, ...]:
    """Mean g/kWh of all zones' work at the site within ``limit_ms`` with the lowest annual mean;
    at the greenest of the hour; and at the greenest hour of any within each window, too.
    """
    reach = (rtt_ms <= limit_ms) | np.eye(len(rtt_ms), dtype=bool)
    hours = inner_hours(g_per_kwh)
    mean_g = np.where(reach, g_per_kwh.mean(axis=0), np.inf)
    fixed = float(hours[:, mean_g.argmin(axis=1)].mean())
    series = [hours, *(best_ahead(g_per_kwh, window_h) for window_h in windows_h)]
    return fixed, *(
        float(np.mean([one[:, sites].min(axis=1).mean() for sites in reach])) for one in series
    )


def study(literature: Literature) -> Replication:
    """Both tables."""
    zones = literature.gcp_zones()
    return Replication(
        "deferral",
        "Geography and time: what waiting adds to moving",
        (_in_place(zones.g_per_kwh), _on_top(zones.g_per_kwh, zones.rtt_ms)),
        (NOTICE,),
    )


def _in_place(g_per_kwh: Floats) -> PaperTable:
    hours = inner_hours(g_per_kwh)
    home = float(hours.mean())
    known, persistent, low, high = [], [], [], []
    for window_h in WINDOWS_H:
        best = best_ahead(g_per_kwh, window_h)
        known.append(_below(float(best.mean()), home))
        persistent.append(_below(float(persistent_ahead(g_per_kwh, window_h).mean()), home))
        by_zone = 100.0 * (1.0 - best.mean(axis=0) / hours.mean(axis=0))
        low.append(float(np.percentile(by_zone, 10)))
        high.append(float(np.percentile(by_zone, 90)))
    nothing = [math.nan] * len(WINDOWS_H)
    return PaperTable(
        f"Waiting in place: below {home:.2f} g/kWh of running at once",
        "%",
        "",
        "who picks the hour",
        tuple(f"up to {window_h} h" for window_h in WINDOWS_H),
        (
            paper_row("knows all hours", nothing, known, 1),
            paper_row("the same, zone at the 10th percentile", nothing, low, 1),
            paper_row("the same, zone at the 90th percentile", nothing, high, 1),
            paper_row("takes the day before for the forecast", nothing, persistent, 1),
        ),
        (f"{g_per_kwh.shape[1]} grid zones, {len(hours)} hours",),
    )


def _on_top(g_per_kwh: Floats, rtt_ms: Floats) -> PaperTable:
    rows = []
    for limit_ms in LIMITS_MS:
        fixed, *others = place_first(g_per_kwh, rtt_ms, limit_ms)
        ours = [fixed, *(_below(one, fixed) for one in others)]
        rows.append(paper_row(f"{limit_ms:g} ms", [math.nan] * len(ours), ours, 1))
    return PaperTable(
        "Moving within a round trip: the greenest place of the year, then hours, then waiting",
        "g/kWh, then % below it",
        "",
        "round trip",
        (
            "greenest of the year, g/kWh",
            "greenest of the hour, %",
            *(f"and wait up to {window_h} h, %" for window_h in _ON_TOP_H),
        ),
        tuple(rows),
        ("all hours known in advance, no limit on capacity",),
    )


def _below(g_per_kwh: float, before: float) -> float:
    return 100.0 * (1.0 - g_per_kwh / before)

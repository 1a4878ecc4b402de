"""What waiting saves in place when the product's own forecaster picks the hour: docs/deferral.md.

    python -m benchmarks.waiting [FOLDER]

Every hour a job arrives in every grid zone, which may begin up to a window later and runs for less
than an hour; there is room for all of them. At the beginning of every hour each that waits is asked
anew: it begins if no hour that is left to it is expected to be cleaner. `knows all hours` is the
least possible; `day before` takes the same hour of the day before for the forecast. `lag`: until
the mean of an hour is published, from its end; "now" where that of the hour that begins is known.
With place, jobs arise alike in all grid zones of a fleet, and each may run in any of them (or in
those within so many ms of where it arises), an hour and a zone of its choice.

The rule is what `router.core.deferral.planning` comes to with room for all; a sample is held
against it. The forecaster learns as it goes, from the first hour of the set on; what is counted
begins where the table says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from router.carbon.forecast.rolling import Rolling
from router.carbon.tables.table import TraceTable, read_table
from router.core.deferral.outlook import DeferralOutlook
from router.core.deferral.planning import DeferralRules, plan_deferral
from router.core.deferral.work import WaitingJob, WaitingWork
from router.lab.replicate.inputs import GcpZones, Literature
from router.model import Factors
from router.units import HOUR_S

FOLDER = Path(__file__).resolve().parents[2] / "shared/data"
LONG = "ci-hourly-2021-2023-16zones/ci_lca_gco2_per_kwh_2021_2023.csv.gz"
WINDOWS_H = (2, 8, 24)
# The first hour asked for lies two after the newest that is known at the most.
LEADS_H = np.arange(1, 28)
TOGETHER = 8
SAMPLE = 200
REACH_MS = 100.0
EUROPE = ("BE", "DE", "ES", "GB", "NL")
US = ("US-CAL-CISO", "US-MIDA-PJM", "US-NW-PACE", "US-TEX-ERCO")


class Forecasts(NamedTuple):
    """Of every hour known last: (hours, zones, leads) g/kWh, the point and its 5 and 95 %."""

    point: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Fleet(NamedTuple):
    """``reach``: of each of ``zones``, the places among them that its jobs may run in."""

    zones: Sequence[str]
    reach: Sequence[np.ndarray]


def forecasts(table: TraceTable) -> Forecasts:
    hours, zones = table.g_per_kwh.shape
    found = np.empty((3, hours, zones, len(LEADS_H)), np.float32)
    first_h = round(table.start / HOUR_S)
    for begin in range(0, zones, TOGETHER):
        some = slice(begin, min(zones, begin + TOGETHER))
        count = some.stop - begin
        rolling = Rolling(table.g_per_kwh[:, some], first_h, [None] * count, leads_h=LEADS_H)
        for hour in range(hours):
            rolling.advance(hour + 1)
            log = rolling.log_point
            for place, below in enumerate((0.0, rolling.low, rolling.high)):
                found[place, hour, some] = np.exp(log + below)
    return Forecasts(*found)


def expected(seen: Forecasts, g: np.ndarray, lag: int | None, hour: int, window: int) -> np.ndarray:
    """(window + 1, zones): this hour and those ahead, at the beginning of ``hour``."""
    newest = hour if lag is None else hour - 1 - lag
    leads = np.maximum(np.arange(hour - newest, hour - newest + window + 1), 1)
    point, low, high = (part[newest][:, leads - 1].T for part in seen)
    mean = 0.185 * low + 0.63 * point + 0.185 * high
    if lag is None:
        mean[0] = g[hour]
    return np.asarray(mean, float)


def day_before(g: np.ndarray, lag: int | None, hour: int, window: int) -> np.ndarray:
    newest = hour if lag is None else hour - 1 - lag
    at = hour + np.arange(window + 1)
    at -= 24 * np.ceil((at - newest) / 24).astype(int)
    mean = g[at].copy()
    if lag is None:
        mean[0] = g[hour]
    return mean


def waited(
    g: np.ndarray,
    picks: Callable[[int, int], np.ndarray],
    window: int,
    first: int,
    reach: Sequence[np.ndarray] | None = None,
    longest: int | None = None,
) -> tuple[float, float, float]:
    """(g/kWh at once, waiting by ``picks``, knowing all) of jobs that arrive from ``first`` on.

    ``reach``: of each zone, those that jobs which arise there may run in; left out: itself.
    ``longest``: the window of others that the same jobs are compared with.
    """
    zones = g.shape[1]
    reach = [np.array([zone]) for zone in range(zones)] if reach is None else reach
    last = len(g) - 24 - (window if longest is None else longest) - 2
    waits: dict[int, np.ndarray] = {}
    sums = np.zeros(3)
    for hour in range(first, last + window + 1):
        said = picks(hour, window)
        chosen = [near[said[0][near].argmin()] for near in reach]
        now, real = said[0][chosen], g[hour][chosen]
        if hour <= last:
            waits[hour] = np.ones(zones, bool)
            sums[0] += g[hour].sum()
            sums[2] += sum(g[hour : hour + window + 1, near].min() for near in reach)
        best = np.stack([said[1:, near].min(axis=1, initial=np.inf) for near in reach], axis=1)
        best = np.minimum.accumulate(best, axis=0)
        for arrived in list(waits):
            left = arrived + window - hour
            goes = waits[arrived] & ((now <= best[left - 1]) if left else True)
            sums[1] += real[goes].sum()
            waits[arrived] &= ~goes
            if not waits[arrived].any():
                del waits[arrived]
    once, ours, least = (sums / sums[0]).tolist()
    return once, ours, least


def hold(seen: Forecasts, g: np.ndarray, start: float, first: int) -> None:
    """A sample of decisions is the planner's."""
    rng = np.random.default_rng(1)
    rules = DeferralRules(attempts=0.0, margin_s=0.0)
    for _ in range(SAMPLE):
        hour, zone = int(rng.integers(first, len(g) - 60)), int(rng.integers(g.shape[1]))
        window = int(rng.choice(WINDOWS_H))
        mean = expected(seen, g, 0, hour, window)[:, zone]
        now = start + hour * HOUR_S
        bands = np.stack([mean, mean, mean])[:, None]
        room = np.full((1, 1, window + 1), 1e6)
        outlook = DeferralOutlook(
            ("m",), ("r",), now, HOUR_S, bands, np.ones(1), room, 0.0 * room, room, np.ones((1, 1))
        )
        due = now + (window + 1) * HOUR_S
        work = WaitingWork.of([WaitingJob(now, due, "m", 1.0, 1.0)])
        plan = plan_deferral(work, outlook, now, rules)
        assert (len(plan.rows) == 1) == bool(mean[0] <= mean[1:].min()), (hour, zone, window)


def told(name: str, table: TraceTable, first: int, seen: Forecasts) -> None:
    g = table.g_per_kwh
    hold(seen, g, table.start, first)
    print(
        f"\n{name}\n\n| window | lag | knows all hours | scheduler | of it | day before | of it |"
    )
    print("|---|---|--:|--:|--:|--:|--:|")
    for window in WINDOWS_H:
        for lag in (None, 1):
            own = waited(g, partial(expected, seen, g, lag), window, first)
            naive = waited(g, partial(day_before, g, lag), window, first)
            most = 100.0 * (1.0 - own[2])
            cells = [f"{window} h", "now" if lag is None else f"{lag} h", f"{most:.1f} %"]
            for one in (own, naive):
                saved = 100.0 * (1.0 - one[1])
                cells += [f"{saved:.1f} %", f"{100.0 * saved / most:.0f} %"]
            print(f"| {' | '.join(cells)} |")


def asked(seen: Forecasts, g: np.ndarray, hour: int, window: int) -> np.ndarray:
    return expected(seen, g, hour, 1, window)


def placed(table: TraceTable, seen: Forecasts, first: int, fleets: Mapping[str, Fleet]) -> None:
    """Of each fleet: place alone, which is a window of nothing, and with waiting."""
    print(
        "\n| fleet | window | knows all | scheduler | of it | waiting adds, knows all | scheduler "
        "| of it |\n|---|---|--:|--:|--:|--:|--:|--:|"
    )
    for name, (zones, reach) in fleets.items():
        rows = [table.grid_zones.index(zone) for zone in zones]
        g = table.g_per_kwh[:, rows]
        own = Forecasts(*(part[:, rows] for part in seen))
        before: tuple[float, float, float] | None = None
        for window in (0, *WINDOWS_H[1:]):
            picks = partial(expected, own, g, 1)
            found = waited(g, picks, window, first, reach, max(WINDOWS_H))
            before = before or found
            ours, most = 100.0 * (1.0 - found[1]), 100.0 * (1.0 - found[2])
            cells = [f"{window} h" if window else "at once", f"{most:.1f} %", f"{ours:.1f} %"]
            cells.append(f"{100.0 * ours / most:.0f} %")
            if window:
                adds = [100.0 * (1.0 - found[k] / before[k]) for k in (2, 1)]
                cells += [f"{one:.1f} %" for one in adds] + [f"{100.0 * adds[1] / adds[0]:.0f} %"]
            else:
                cells += ["", "", ""]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def fleets(zones: GcpZones) -> dict[str, Fleet]:
    """Of the 30 grid zones with a Google region."""
    near = [np.flatnonzero(row <= REACH_MS) for row in zones.rtt_ms]
    whole = {
        name: Fleet(members, [np.arange(len(members))] * len(members))
        for name, members in (("five in Europe", EUROPE), ("four in the US", US))
    }
    return {"30, within 100 ms": Fleet(zones.grid_zones, near), **whole}


def main(folder: Path) -> None:
    table = read_table(folder / LONG, Factors.LIFECYCLE)
    told("16 grid zones, 2023, learnt from 2021 and 2022", table, 2 * 365 * 24, forecasts(table))
    literature = Literature(folder)
    zones = literature.gcp_zones()
    whole = TraceTable(
        "gcp", zones.grid_zones, literature.intensities.start, HOUR_S, zones.g_per_kwh
    )
    seen = forecasts(whole)
    since = 40 * 24
    told("30 grid zones, 2022, from its seventh week, learnt from nothing", whole, since, seen)
    told("the same, its second half", whole, 182 * 24, seen)
    print("\nwith place, 2022 from its seventh week, learnt from nothing, published an hour late")
    placed(whole, seen, since, fleets(zones))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)

"""Quality as the grid allows: a mean quality over a window, and when the better answers are given.

Wiesner et al., "Carbon-Aware Quality Adaptation for Energy-Intensive Services" (arXiv 2411.19058,
first "Quality Time"): a service stays where it is and answers a share of its requests with a
better, dearer tier; that share is free as long as its mean over a window (the study's validity
period) reaches a target. Here with the code of this repository: `router.core.quality_plan` plans
the hours, `router.core.quality_means` holds the mean request by request.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import numpy as np

from router.config.loading import shipped_profiles
from router.core.energy import long_run_energy
from router.core.quality_means import QualityMeans
from router.core.quality_plan import hourly_qualities
from router.lab.replicate.inputs import NOTICE, Floats, Literature
from router.lab.replicate.paper import PaperTable, Replication, paper_row
from router.model import Alias, QualityFloors, TokenProfile, Variant
from router.units import HOUR_S

TIERS: Final = ("llama-3.1-8b@1xh100", "llama-3.1-70b@4xh100")
# The share of requests that the better tier answers: what the study calls quality of response.
QUALITIES: Final = (0.0, 1.0)
TARGET: Final = 0.5
WINDOWS_H: Final = (24, 168)
TOKENS: Final = (180.0, 250.0)
# Of the rolling means: requests an hour, and every third grid zone, for time.
_AN_HOUR: Final = 10
_EVERY: Final = 3
PUBLISHED: Final = "up to 10 %"


def tier_joules() -> tuple[float, ...]:
    """IT joules of a request of ``TOKENS`` (input, output) by each of the `TIERS`."""
    n_in, n_out = TOKENS
    found = []
    for name in TIERS:
        profile = shipped_profiles()[name]
        assert isinstance(profile, TokenProfile)
        each = long_run_energy(profile)
        joules = each.j_per_token * n_out + each.j_per_prompt_ms * profile.prompt_ms(n_in)
        found.append(joules + each.j_per_request)
    return tuple(found)


def steady_g(g_per_kwh: Floats, joules: tuple[float, ...]) -> float:
    """Mean intensity times joules where every hour has the target: what all is measured against."""
    return float(g_per_kwh.mean()) * (joules[0] + TARGET * (joules[1] - joules[0]))


def planned_g(g_per_kwh: Floats, joules: tuple[float, ...], window_h: int) -> float:
    """The same where windows follow each other and all hours of each are known; whole ones alone.

    ``g_per_kwh``: (hours,).
    """
    windows = g_per_kwh[: len(g_per_kwh) // window_h * window_h].reshape(-1, window_h)
    spent = [
        float((one * _joules(hourly_qualities(QUALITIES, joules, one, TARGET), joules)).mean())
        for one in windows
    ]
    return float(np.mean(spent))


def rolling_g(
    g_per_kwh: Floats, joules: tuple[float, ...], window_h: int, known: bool
) -> tuple[float, float]:
    """(mean intensity times joules, mean quality) of a rolling mean, request by request.

    ``known``: the hours ahead are; else each is taken to be as the same hour of the last day that
    is known. From the second day of ``g_per_kwh`` (hours,) to a window before its end.
    """
    tiers = tuple(map(Variant, TIERS, QUALITIES))
    alias = Alias(
        "tiers", tiers, "shares of the better tier", QualityFloors(0.0, TARGET),
        window_s=window_h * HOUR_S,
    )  # fmt: skip
    means, spent, quality = QualityMeans(), [], []
    for hour in range(24, len(g_per_kwh) - window_h):
        ahead = g_per_kwh[hour : hour + window_h]
        if not known:
            day = g_per_kwh[hour - 24 : hour]
            ahead = np.concatenate(([g_per_kwh[hour]], np.resize(day, window_h)[1:]))
        plan = partial(_first, joules, ahead)
        for turn in range(_AN_HOUR):
            now = (hour + turn / _AN_HOUR) * HOUR_S
            floor = means.floor(alias, "", now, hour, plan)
            rank = alias.rank(floor)
            means.count(alias, "", QUALITIES[rank], now)
            spent.append(g_per_kwh[hour] * joules[rank])
            quality.append(QUALITIES[rank])
    return float(np.mean(spent)), float(np.mean(quality))


def _first(joules: tuple[float, ...], ahead: Floats, mean: float) -> float:
    return float(hourly_qualities(QUALITIES, joules, ahead, min(max(mean, 0.0), 1.0))[0])


def _joules(quality: Floats, joules: tuple[float, ...]) -> Floats:
    return joules[0] + quality * (joules[1] - joules[0])


def study(literature: Literature) -> Replication:
    """Saved against the same mean quality in every hour."""
    return Replication(
        "quality",
        "Wiesner et al.: quality by the hour, in place",
        (planned(literature), rolling(literature)),
        (NOTICE,),
    )


def planned(literature: Literature) -> PaperTable:
    """With all hours known: what there is to be had."""
    g_per_kwh, joules = literature.gcp_zones().g_per_kwh, tier_joules()
    series = [np.ascontiguousarray(one) for one in g_per_kwh.T]
    columns = []
    for window_h in WINDOWS_H:
        whole = [one[: len(one) // window_h * window_h] for one in series]
        saved = np.array(
            [_below(planned_g(one, joules, window_h), steady_g(one, joules)) for one in whole]
        )
        columns.append(
            [float(np.percentile(saved, q)) for q in (10, 50, 90)] + [float(saved.max())]
        )
    titles = ("zone at the 10th percentile", "the zone in the middle",
              "zone at the 90th percentile", "the most of any zone")  # fmt: skip
    return _table(
        "All hours known, a mean for each window: saved against that mean in every hour",
        titles, columns,
        (
            f"published: {PUBLISHED} of a service's emissions, in the abstract; for which region, "
            "window and tiers could not be read, so that it is not compared",
            f"half of the requests by {TIERS[1]} ({joules[1]:.0f} J a request), half by "
            f"{TIERS[0]} ({joules[0]:.0f} J); {len(series)} grid zones, every hour as many",
        ),
    )  # fmt: skip


def rolling(literature: Literature) -> PaperTable:
    """As a gateway keeps a mean, knowing the hours ahead or the day before."""
    g_per_kwh, joules = literature.gcp_zones().g_per_kwh[:, ::_EVERY], tier_joules()
    series = [np.ascontiguousarray(one) for one in g_per_kwh.T]
    columns = []
    for window_h in WINDOWS_H:
        found = []
        for known in (True, False):
            # Against the quality that it came to, so that more of it is no loss.
            runs = [rolling_g(one, joules, window_h, known) for one in series]
            steady = [float(one[24 : len(one) - window_h].mean()) for one in series]
            saved = [
                _below(grams, float(g * _joules(np.array(quality), joules)))
                for (grams, quality), g in zip(runs, steady, strict=True)
            ]
            found += [float(np.median(saved)), min(quality for _, quality in runs)]
        columns.append([found[0], found[2], 100.0 * min(found[1], found[3])])
    titles = ("all hours known", "as the day before", "least mean quality of any zone")
    return _table(
        "A rolling mean, request by request: saved in the zone in the middle",
        titles, columns,
        (f"{len(series)} grid zones, {_AN_HOUR} requests an hour; against the same mean quality in "
         "every hour",),
    )  # fmt: skip


def _table(
    title: str, titles: tuple[str, ...], columns: list[list[float]], remarks: tuple[str, ...]
) -> PaperTable:
    nothing = [math.nan] * len(WINDOWS_H)
    rows = zip(titles, zip(*columns, strict=True), strict=True)
    return PaperTable(
        title, "%", "", "",
        tuple(f"mean over {window_h} h" for window_h in WINDOWS_H),
        tuple(paper_row(label, nothing, ours, 1) for label, ours in rows),
        remarks,
    )  # fmt: skip


def _below(grams: float, before: float) -> float:
    return 100.0 * (1.0 - grams / before)

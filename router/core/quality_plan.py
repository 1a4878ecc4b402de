"""In which hours to be served well: the hourly mean qualities that keep a mean at the least grams.

Which requests get the better variants is free as long as the mean over some hours holds, so they go
where a better answer costs least: in the hours whose energy is cleanest (Wiesner et al., *Quality
Time*, arXiv 2411.19058, who solve it as a mixed-integer program over tiers and hours). Without
capacities its relaxation has a closed form, which is what is here: every step from a variant to a
better one, in every hour, at its grams per quality, the cheapest first, until the mean is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from router.core.columns import Snapshot
from router.core.energy import long_run_energy
from router.model import Alias, LengthPrior, Profile, TaskProfile
from router.units import HOUR_S


def planned_quality(alias: Alias, snapshot: Snapshot, now: float, mean: float) -> float:
    """The mean quality of the hour of ``now`` by which ``alias`` keeps a ``mean`` over its window
    from then on, at the least grams: by the cleanest grid, at each hour, that serves any variant of
    it, and the joules of a request of usual length on the hardware that serves each."""
    layout = snapshot.layout
    fleet = layout.fleet
    candidates = layout.candidates.get((alias.name, ""))
    if candidates is None:
        return mean
    prior = fleet.priors.get(alias.name)
    qualities, energies_j = [], []
    for variant in alias.variants:
        profiles = [one.profile for one in candidates.served if one.name == variant.model]
        if profiles:
            qualities.append(variant.quality)
            energies_j.append(min(_request_j(profile, prior) for profile in profiles))
    hours = max(1, round(alias.window_s / HOUR_S))
    zones = {fleet.regions[name] for name in candidates.regions}
    known = [
        np.array([forecast.at(now + HOUR_S * ahead).g_per_kwh for ahead in range(hours)])
        * region.pue
        for region in zones
        if (forecast := snapshot.forecasts.get(region.grid_zone)) is not None
    ]
    if not known:
        return mean
    g_per_kwh = np.min(known, axis=0)
    return float(hourly_qualities(qualities, energies_j, g_per_kwh, mean)[0])


def _request_j(profile: Profile, prior: LengthPrior | None) -> float:
    energy = long_run_energy(profile)
    n_in, n_out = (1.0, 1.0) if prior is None else (prior.input_tokens, prior.output_tokens)
    prompt_ms = 0.0 if isinstance(profile, TaskProfile) else profile.prompt_ms(n_in)
    return energy.j_per_token * n_out + energy.j_per_prompt_ms * prompt_ms + energy.j_per_request


def hourly_qualities(
    qualities: Sequence[float],
    energies_j: Sequence[float],
    g_per_kwh: NDArray[np.float64],
    mean: float,
) -> NDArray[np.float64]:
    """The mean quality of each hour, (hours,), whose mean over all hours is ``mean``, or as near as
    variants get.

    ``qualities``, ``energies_j``: of the variants, from the least quality to the best, joules of a
    request; ``g_per_kwh`` (hours,): what energy costs in each hour, which have as many requests
    each.
    """
    steps = _steps(qualities, energies_j)
    start = _cheapest(qualities, energies_j)
    found = np.full(len(g_per_kwh), qualities[start])
    left = (mean - float(found.mean())) * len(found)
    # (grams a quality, hour, quality): of one hour each step costs more than the one before it.
    every = sorted(
        (joules / gain * g, hour, gain)
        for hour, g in enumerate(g_per_kwh.tolist())
        for gain, joules in steps
    )
    for _, alike in groupby(every, key=itemgetter(0)):
        if left <= 0.0:
            break
        # Of hours that cost as much none is better: each gets as much.
        taken = list(alike)
        share = min(1.0, left / sum(gain for *_, gain in taken))
        for _, hour, gain in taken:
            found[hour] += share * gain
            left -= share * gain
    return found


def _cheapest(qualities: Sequence[float], energies_j: Sequence[float]) -> int:
    """The best of those that take the least energy."""
    least = min(energies_j)
    return max(place for place in range(len(qualities)) if energies_j[place] == least)


def _steps(qualities: Sequence[float], energies_j: Sequence[float]) -> list[tuple[float, float]]:
    """(quality, joules) of each step up the lower convex hull of what quality takes, from the
    cheapest variant on: a mixture of two of its corners takes no more than a variant between."""
    hull: list[int] = []
    for place in range(_cheapest(qualities, energies_j), len(qualities)):
        while len(hull) > 1 and _slope(qualities, energies_j, hull[-2], hull[-1]) >= _slope(
            qualities, energies_j, hull[-1], place
        ):
            hull.pop()
        if hull and qualities[place] <= qualities[hull[-1]]:
            continue
        hull.append(place)
    return [
        (qualities[high] - qualities[low], energies_j[high] - energies_j[low])
        for low, high in pairwise(hull)
    ]


def _slope(qualities: Sequence[float], energies_j: Sequence[float], low: int, high: int) -> float:
    gain = qualities[high] - qualities[low]
    return (energies_j[high] - energies_j[low]) / gain if gain > 0.0 else float("inf")

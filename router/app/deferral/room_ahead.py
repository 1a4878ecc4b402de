"""The room that deferred work may have in the hours ahead, on replicas that serve and on others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from router.app.deferral.room import WantedModel, asked_by
from router.core import kernel_rows as k
from router.core.deferral.outlook import DeferralOutlook
from router.core.energy import attributional_j_per_token, short_run_j_per_token
from router.deferral.values import JobKind
from router.director import View
from router.model import Forecast, Profile, TokenProfile

# Replicas of a model in a region that would serve if they were asked to.
Asleep: TypeAlias = Callable[[str, str], int]


def none_asleep(model: str, region: str) -> int:
    """Where nobody scales replicas."""
    return 0


def outlook_of(
    view: View,
    kinds: Sequence[JobKind],
    forecasts: Mapping[str, Forecast],
    share: float,
    asleep: Asleep,
    now: float,
) -> DeferralOutlook:
    """Of what ``kinds`` ask for, in the regions of ``forecasts``. ``share``: of each endpoint's
    places. At worst half of all is there, of those that would have to wake, too."""
    asked, names = sorted({asked_by(kind) for kind in kinds}), list(forecasts)
    regions = view.snapshot.layout.fleet.regions
    under_way = dict.fromkeys(asked, 0)
    for kind in kinds:
        under_way[asked_by(kind)] += kind.under_way
    awake = np.array([_places(view, one, names, share, under_way[one]) for one in asked])
    sleeping, ratio = np.zeros_like(awake), np.ones_like(awake)
    for m, one in enumerate(asked):
        for r, (places, woken) in _replicas(view, one.model, names, share).items():
            sleeping[m, r] = places * asleep(one.model, names[r])
            ratio[m, r] = woken
    return DeferralOutlook.steady(
        forecasts,
        {name: regions[name].pue for name in names},
        [one.name for one in asked],
        now=now,
        awake_places=awake,
        asleep_places=sleeping,
        least_places=(awake + sleeping) / 2.0,
        woken_ratio=ratio,
    )


def _places(
    view: View, asked: WantedModel, regions: list[str], share: float, under_way: int
) -> NDArray[np.float64]:
    """(regions,): those that are free now, and those that deferred work has, wherever that is."""
    most, busy = np.zeros(len(regions)), np.zeros(len(regions))
    candidates = asked.candidates(view.snapshot.layout)
    if candidates is None:
        return most
    key = (candidates.model, candidates.version)
    live, table = view.board.live(*key), view.snapshot.columns[key].table
    # One that serves several variants has its places once.
    seen: set[str] = set()
    for row, endpoint in enumerate(candidates.endpoints):
        if endpoint.name in seen:
            continue
        if live[k.ELIGIBLE, row] and endpoint.region in regions:
            seen.add(endpoint.name)
            at = regions.index(endpoint.region)
            most[at] += max(1.0, math.floor(share * float(table[k.MAX_IN_FLIGHT, row])))
            busy[at] += float(live[k.BATCH, row])
    others = busy * max(0.0, 1.0 - under_way / max(float(busy.sum()), 1e-9))
    return np.maximum(0.0, most - others)


def _replicas(
    view: View, model: str, regions: list[str], share: float
) -> dict[int, tuple[float, float]]:
    """By row of ``regions``: deferred requests that one replica takes there, and joules of work on
    one that was woken for it over those on one that runs anyway."""
    found: dict[int, tuple[float, float]] = {}
    for endpoint in view.snapshot.layout.find(model, "").endpoints:
        if endpoint.region in regions:
            places = max(1.0, math.floor(share * endpoint.max_in_flight))
            # Of an alias there are no replicas: its variants have them.
            for served in endpoint.models:
                if served.name == model:
                    woken = _woken_ratio(served.profile, places)
                    found[regions.index(endpoint.region)] = places, woken
    return found


def _woken_ratio(profile: Profile, places: float) -> float:
    """By the profile, at ``places`` requests at once."""
    if not isinstance(profile, TokenProfile):
        return 1.0
    whole = attributional_j_per_token(profile, places)
    return max(1.0, whole / max(short_run_j_per_token(profile), 1e-9))

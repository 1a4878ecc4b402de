"""Quality floors of tenants, and of means, as the engine can have them: each request's own.

The engine knows the candidates of a model. So an alias whose floor differs from request to request
becomes several, one for each of its variants from which requests may be served, and each request
asks for the one that its floor allows. Means are the product's (`router.core.quality_means`), with
its plan of the hours ahead (`router.core.quality_plan`), on the carbon signal of each hour.

What is otherwise than in a gateway: a request counts as served with the variant that just reaches
its floor; where the kernel takes a better one that is not spent, so means are kept, and may lie
higher. One that nobody answers counts, too. Lengths of answers are learned apart for each floor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core.columns import Snapshot, build_snapshot
from router.core.layout import Layout
from router.core.quality_means import QualityMeans
from router.core.quality_plan import planned_quality
from router.lab.sim.simulation import Simulation, Workload
from router.lab.sim.traffic.columns import Names, Traffic
from router.model import Alias, Fleet, Policy, QualityFloors
from router.units import HOUR_S

# No name that callers can ask for.
_AT_LEAST: Final = "\0at least "


def with_floors(simulation: Simulation, policy: Policy) -> Simulation:
    """The same, in which every request asks for an alias with the floor of its own; as it is where
    each has the operator's floor."""
    fleet, names = simulation.fleet, simulation.workload.names
    split = [
        m
        for m, model in enumerate(names.models)
        if (alias := fleet.aliases.get(model)) and (alias.floors.mean or alias.tenants)
    ]
    if not split:
        return simulation
    models, asked = list(names.models), list(range(len(names.models)))
    aliases, priors = dict(fleet.aliases), dict(fleet.priors)
    firsts = {}
    for m in split:
        alias = fleet.aliases[names.models[m]]
        firsts[m] = len(models)
        for variant in alias.variants:
            name = f"{alias.name}{_AT_LEAST}{variant.quality}"
            floors = QualityFloors(variant.quality)
            aliases[name] = replace(alias, name=name, floors=floors, tenants={})
            priors[name] = fleet.priors[alias.name]
            models.append(name)
            asked.append(m)
    widened = replace(fleet, aliases=aliases, priors=priors)
    floored = replace(names, models=tuple(models), asked=tuple(asked))
    return replace(
        simulation,
        fleet=widened,
        workload=_Floored(floored, simulation.workload, _Agreed(simulation, policy), firsts),
    )


@dataclass(slots=True, eq=False)
class _Floored:
    """A Workload; ``firsts``: by model that is split, the first of those that stand for it."""

    names: Names
    asked: Workload
    agreed: _Agreed
    firsts: dict[int, int]

    def chunks(self) -> Iterator[Traffic]:
        means = QualityMeans()
        tenants = self.names.tenants
        for traffic in self.asked.chunks():
            model = traffic.model.copy()
            for m, first in self.firsts.items():
                rows = np.flatnonzero(traffic.model == m)
                who = [tenants[code] for code in traffic.tenant[rows].tolist()]
                ranks = self.agreed.ranks(means, self.names.models[m], who, traffic.arrival_s[rows])
                model[rows] = first + ranks
            yield replace(traffic, model=model)


class _Agreed:
    """What is agreed of every request, and planned of every hour."""

    def __init__(self, simulation: Simulation, policy: Policy) -> None:
        self._simulation, self._policy = simulation, policy
        self._fleet: Fleet = simulation.fleet
        self._layout = Layout(simulation.fleet)
        self._hour = -1
        self._known: Snapshot | None = None

    def ranks(
        self,
        means: QualityMeans,
        model: str,
        tenants: Sequence[str],
        arrival_s: NDArray[np.float64],
    ) -> NDArray[np.int32]:
        """The first variant that may serve each request (requests,), in order of arrival."""
        alias = self._fleet.aliases[model]
        best = len(alias.variants) - 1
        found = np.empty(len(arrival_s), np.int32)
        for row, (tenant, at_s) in enumerate(zip(tenants, arrival_s.tolist(), strict=True)):
            floor, mean = alias.floors_of(tenant)
            now = self._simulation.start + at_s
            if mean:
                floor = max(floor, self._floor(means, alias, tenant, now))
            rank = min(alias.rank(floor), best)
            found[row] = rank
            if mean:
                means.count(alias, tenant, alias.variants[rank].quality, now)
        return found

    def _floor(self, means: QualityMeans, alias: Alias, tenant: str, now: float) -> float:
        hour = math.floor(now / HOUR_S)
        if self._known is None or hour != self._hour:
            simulation = self._simulation
            at = max(hour * HOUR_S, simulation.start)
            self._known = build_snapshot(
                self._layout, self._policy, simulation.signal.view(at), simulation.annual_means,
                at, hour,
            )  # fmt: skip
            self._hour = hour
        plan = partial(planned_quality, alias, self._known, now)
        return means.floor(alias, tenant, now, hour, plan)

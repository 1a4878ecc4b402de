"""How far a run is from the bound, and what that is due to: whole replicas, prompts, chance, rest.

Each part is the difference of two neighbours in the row of bound, plans and run
(`router.lab.sim.bound.plan`), as a share of the bound. All of it is estimated.
"""

from __future__ import annotations

import math
from typing import Any, Final

from router.lab.sim.bound.plan import KINDS, Plans, WholePlan
from router.lab.sim.bound.run import Bound
from router.lab.sim.result import PolicyResult

PARTS: Final = ("whole_replicas", "prompts", "chance")
"""What each of `KINDS` adds to the one before."""
REST: Final = "rest"


def whole_values(limit: Bound) -> dict[str, float]:
    """The bound with whole replicas; of a fleet that releases idle ones both are the busy one."""
    return {
        "gco2e_attributional": limit.whole_busy_g,
        "gco2e_consequential": _fleet(limit.whole_fleet_g, limit.whole_busy_g),
    }


def plan_values(limit: Bound, plans: Plans) -> dict[str, Any]:
    """The plans in grams, by kind."""
    kinds = {kind: _plan(limit, getattr(plans, kind)) for kind in KINDS}
    return {"moments": plans.moments, **kinds}


def _plan(limit: Bound, plan: WholePlan) -> dict[str, float]:
    fleet_g = limit.fleet_g + plan.fleet_above_g
    return {
        "gco2e_attributional": limit.busy_g + plan.busy_above_g,
        "gco2e_attributional_error": plan.busy_error_g,
        "gco2e_consequential": _fleet(fleet_g, limit.busy_g + plan.busy_above_g),
        "gco2e_consequential_error": _fleet(plan.fleet_error_g, plan.busy_error_g),
        "solver_gap": plan.gap,
        "unserved_share": plan.unserved,
        "replicas_awake": plan.awake,
    }


def over_bound(result: PolicyResult, limit: Bound, plans: Plans) -> dict[str, dict[str, float]]:
    """Each part of the regret as a share of the bound; they add up to it. Both accounts."""
    above_g = [getattr(plans, kind).busy_above_g for kind in KINDS]
    fleet_above_g = [getattr(plans, kind).fleet_above_g for kind in KINDS]
    fleet_limit_g = _fleet(limit.fleet_g, limit.busy_g)
    if not math.isfinite(limit.fleet_g):
        fleet_above_g = above_g
    return {
        "attributional": _parts(result.gco2e, limit.busy_g, above_g),
        "consequential": _parts(result.fleet.total_g, fleet_limit_g, fleet_above_g),
    }


def _parts(grams: float, limit_g: float, above_g: list[float]) -> dict[str, float]:
    steps = [0.0, *above_g, grams - limit_g]
    share = 1.0 / limit_g if limit_g > 0.0 else math.nan
    return {
        name: (later - before) * share
        for name, before, later in zip((*PARTS, REST), steps, steps[1:], strict=False)
    }


def _fleet(fleet: float, busy: float) -> float:
    """Where idle replicas are released there is no figure of those that are kept on."""
    return fleet if math.isfinite(fleet) else busy

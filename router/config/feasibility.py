"""Whether a policy's limits can ever be met by this fleet, before any request came."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from router.config.problems import Problem, key_path
from router.model import DROPPED_BUDGETS, Endpoint, Fleet, Policy, Profile, TaskProfile


class Floor(NamedTuple):
    """The least latency that is physically possible, with where it is reached, ms."""

    ms: float
    endpoint: str


def check_feasible(policy: Policy, fleet: Fleet) -> tuple[list[Problem], list[str]]:
    """(problems, notes): residency that leaves a model no endpoint, and budgets below what an idle
    fleet takes for a mean request.

    The floor of a model is its fastest endpoint, idle, from its nearest origin. A budget below
    the floor of every model is a problem. Below that of some models only, it is a note where the
    policy may relax its own latency budgets, and a problem where it may not.
    """
    problems, notes = _residency(policy, fleet)
    budgets = {"ttft_ms": policy.budget.ttft_ms, "tpot_ms": policy.budget.tpot_ms}
    budgets["e2e_ms"] = policy.budget.e2e_ms
    relaxed = {key for rung in policy.ladder for key in DROPPED_BUDGETS.get(rung, ())}
    models = sorted({model.name for endpoint in fleet.endpoints for model in endpoint.models})
    for key, budget_ms in budgets.items():
        if math.isinf(budget_ms):
            continue
        floors = {model: _floor(fleet, model, key) for model in models}
        below = {model: floor for model, floor in floors.items() if floor.ms > budget_ms}
        never = len(below) == len(models) or key not in relaxed
        for model, floor in below.items():
            text = (
                f"{budget_ms:g} ms can never be met for {model}: its fastest endpoint "
                f"({floor.endpoint}, idle, from the nearest origin) takes {floor.ms:.0f} ms"
            )
            if never:
                problems.append((f"policy.budget.{key}", f"{text}; raise it"))
            else:
                notes.append(f"policy.budget.{key}: {text}; it will always be relaxed")
    return problems, notes


def _residency(policy: Policy, fleet: Fleet) -> tuple[list[Problem], list[str]]:
    """A model that the operator's own limits leave no endpoint; a tenant that they leave no model
    is a problem, too, and a note where they leave it some."""
    open_to = {
        model: [
            region
            for name in dict.fromkeys(endpoint.region for endpoint, _ in _serving(fleet, model))
            if (region := fleet.regions[name]).lies_in(policy.residency)
            and region.lies_in(fleet.residency.models.get(model, frozenset()))
        ]
        for model in sorted(fleet.priors.keys() - fleet.aliases.keys())
    }
    problems: list[Problem] = []
    notes: list[str] = []
    for model, regions in open_to.items():
        if not regions:
            rule = fleet.residency.models.get(model)
            where = "policy.residency" if policy.residency else f"models.{model}.residency"
            both = " and the policy" if rule and policy.residency else ""
            held = "policy" if not rule else f"model{both}"
            problems.append((where, f"no endpoint of {model} lies where the {held} may run"))
    for tenant, names in fleet.residency.tenants.items():
        closed = [m for m, regions in open_to.items() if not any(r.lies_in(names) for r in regions)]
        where = key_path(["tenants", tenant, "residency"])
        if closed and len(closed) == len(open_to):
            problems.append(
                (where, "no endpoint of any model lies where this, model and policy allow")
            )
        elif closed:
            notes.append(f"{where}: leaves no endpoint of {', '.join(closed)}")
    return problems, notes


def _floor(fleet: Fleet, model: str, key: str) -> Floor:
    least = Floor(math.inf, "")
    for endpoint, profile in _serving(fleet, model):
        rtt_ms = min(row[endpoint.region] for row in fleet.rtt_ms.values())
        prior = fleet.priors[model]
        value_ms = _idle_ms(profile, key, rtt_ms, prior.input_tokens, prior.output_tokens)
        if value_ms < least.ms:
            least = Floor(value_ms, endpoint.name)
    return least


def _serving(fleet: Fleet, model: str) -> Iterator[tuple[Endpoint, Profile]]:
    for endpoint in fleet.endpoints:
        for served in endpoint.models:
            if served.name == model:
                yield endpoint, served.profile


def _idle_ms(
    profile: Profile, key: str, rtt_ms: float, input_tokens: float, output_tokens: float
) -> float:
    """TTFT, TPOT or end-to-end of an idle replica: no queue, a batch of one, mean lengths."""
    if isinstance(profile, TaskProfile):
        return 0.0 if key == "tpot_ms" else rtt_ms + profile.service_ms
    alone_ms = profile.tpot_ms(1.0)
    ttft_ms = rtt_ms + profile.lone_ttft_ms(input_tokens)
    return {
        "tpot_ms": alone_ms,
        "ttft_ms": ttft_ms,
        "e2e_ms": ttft_ms + output_tokens * alone_ms,
    }[key]

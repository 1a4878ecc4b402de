"""Who limits where a request may run, and what is left when all of them are obeyed.

A party (the caller, its tenant, the model, the policy) names jurisdictions and allows the regions
that lie in one of them. A request runs where every party allows: nobody widens another's limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from router.model import Fleet, Policy, Request


class Party(NamedTuple):
    """``who`` limits a request to regions in one of the jurisdictions it ``allows``."""

    who: str
    allows: frozenset[str]


def parties(request: Request, policy: Policy, fleet: Fleet) -> tuple[Party, ...]:
    """Everybody who limits where ``request`` may run; none: anywhere."""
    rules = fleet.residency
    return tuple(
        Party(who, allows)
        for who, allows in (
            ("the request", request.residency),
            (f"tenant {request.tenant}", rules.tenants.get(request.tenant)),
            (f"model {request.model}", rules.models.get(request.model)),
            (f"policy {policy.name}", policy.residency),
        )
        if allows
    )


def listed(limits: Iterable[Party]) -> str:
    """``eu, uk (tenant acme) and eu (policy eu-only)``."""
    return " and ".join(f"{', '.join(sorted(one.allows))} ({one.who})" for one in limits)

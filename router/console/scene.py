"""What the console shows at one glance, as JSON: of everything, or of what one tenant may see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from router.config.settings import BudgetScope
from router.console.decisions import ShownDecision, decision_document
from router.console.totals import Totals, totals_document
from router.console.traffic import OwnTotals, ReceiptTraffic, flows_document, receipt_document
from router.core.carbon_budgets import AccountView
from router.core.health import State
from router.core.seat import Seat
from router.model import Endpoint, Fleet, Policy, Receipt
from router.telemetry.admin import Readiness
from router.telemetry.view import Json
from router.units import UG_PER_G

FORMAT: Final = 1
_MOST_BUDGETS: Final = 100
STATES: Final = tuple(State)


class Scope(NamedTuple):
    """``owner``: whose requests alone are shown, as `Request.receipt_owner` has it; None: all."""

    owner: str | None

    @property
    def is_all(self) -> bool:
        """Whether nothing is held back."""
        return self.owner is None


EVERYTHING: Final = Scope(None)


class Glance(NamedTuple):
    """What a tick is made of. ``at``: of the clock that dates intensities, ``wall``: of the wall,
    unix s; ``ticks``: on a clock that does not step back, s; ``seconds``: since the last tick.

    ``in_flight``: by endpoint, of all workers; empty where ``seats`` know it.
    ``receipts``: since the last tick, of ``answered`` that there were in this process.
    """

    at: float
    wall: float
    ticks: float
    seconds: float
    totals: Totals
    rates: dict[str, Json] | None
    endpoints: Sequence[Endpoint]
    seats: Mapping[str, Seat]
    in_flight: Mapping[str, float]
    receipts: Sequence[Receipt]
    answered: int
    traffic: ReceiptTraffic
    budgets: Sequence[AccountView]
    readiness: Readiness
    share: float


def fleet_document(
    fleet: Fleet,
    policy: Policy,
    policies: Sequence[str],
    speed: float,
    processes: int,
    scope: Scope,
) -> dict[str, Json]:
    """What stays as it is until a reload. ``speed``: of the clock of intensities, 1 in earnest."""
    emulated = {endpoint.emulated for endpoint in fleet.endpoints}
    return {
        "format": FORMAT,
        "scope": "all" if scope.owner is None else scope.owner.strip(),
        "is_all": scope.is_all,
        "policy": policy.name,
        "policies": list(policies),
        "signal": {
            "basis": policy.signal.basis.value,
            "factors": policy.signal.factors.value,
        },
        "speed": speed,
        "processes": processes,
        "emulated": "none" if True not in emulated else "some" if False in emulated else "all",
        "regions": [
            {"name": one.name, "zone": one.grid_zone, "pue": one.pue}
            for one in fleet.regions.values()
        ],
        "endpoints": [
            {
                "name": one.name,
                "region": one.region,
                "models": [served.name for served in one.models],
                "max_in_flight": one.max_in_flight,
                "emulated": one.emulated,
            }
            for one in fleet.endpoints
        ],
    }


def tick_document(glance: Glance, scope: Scope, own: OwnTotals | None) -> dict[str, Json]:
    """One tick. ``own``: what the requests of the scope's owner came to."""
    receipts, answered = glance.receipts, glance.answered
    if not scope.is_all:
        receipts = [one for one in receipts if one.request.receipt_owner == scope.owner]
        answered = len(receipts)
    told: dict[str, Json] = {
        "at": glance.at,
        "wall": glance.wall,
        "mono": glance.ticks,
        "totals": totals_document(glance.totals) if scope.is_all else None,
        "rates": dict(glance.rates) if scope.is_all and glance.rates else None,
        "own": None if own is None else own.document(),
        "endpoints": _endpoints(glance),
        "flows": flows_document(receipts, answered, glance.seconds),
        "latency": glance.traffic.latency_document(scope.owner),
        "budgets": [budget_document(one) for one in _shown(glance.budgets, scope)],
        "status": _status(glance.readiness, scope),
        "decisions": {"share": glance.share},
    }
    return told


def decision_documents(shown: Iterable[ShownDecision], scope: Scope) -> list[Json]:
    """Those that the scope may see."""
    return [
        decision_document(one, None if one.receipt is None else receipt_document(one.receipt))
        for one in shown
        if may_see(one, scope)
    ]


def may_see(one: ShownDecision, scope: Scope) -> bool:
    """Whether it is shown to those of this scope."""
    return scope.is_all or one.owner == scope.owner


def budget_document(view: AccountView) -> Json:
    """One account of the day, g; ``name``: None for all without an account of their own."""
    return {
        "budget": view.budget.name,
        "per": view.budget.per.value,
        "name": view.name,
        "limit_g": view.limit_ug / UG_PER_G,
        "spent_g": view.spent_ug / UG_PER_G,
        "reserved_g": view.reserved_ug / UG_PER_G,
        "left_g": view.left_ug / UG_PER_G,
        "on_exhausted": view.budget.on_exhausted.value,
        "shadow": view.budget.shadow,
    }


def _shown(views: Sequence[AccountView], scope: Scope) -> Sequence[AccountView]:
    """The accounts that the scope may see, those with least left of their limits first."""
    mine = views
    if not scope.is_all:
        mine = [
            one
            for one in views
            if one.budget.per is BudgetScope.TENANT
            and one.name is not None
            and one.name == scope.owner
        ]
    return sorted(mine, key=lambda one: one.left_ug / max(one.limit_ug, 1))[:_MOST_BUDGETS]


def _endpoints(glance: Glance) -> Json:
    """Rows of state, requests in flight, whether somebody is there to keep it awake, and why it
    takes no traffic; in the order of the fleet."""
    rows: list[Json] = []
    for endpoint in glance.endpoints:
        seat = glance.seats.get(endpoint.name)
        if seat is None:
            rows.append([STATES.index(State.EJECTED), 0, False, "unknown"])
            continue
        in_flight = glance.in_flight.get(endpoint.name, seat.in_flight)
        is_awake = in_flight > 0 or seat.batch > 0
        rows.append([STATES.index(seat.state), in_flight, is_awake, seat.cause.value])
    return rows


def _status(readiness: Readiness, scope: Scope) -> Json:
    reasons: list[Json] = []
    if scope.is_all:
        reasons = [dict(reason._asdict()) for reason in readiness.reasons]
    return {"status": readiness.status, "reasons": reasons}

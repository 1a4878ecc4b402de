"""What carbon budgets say of one request, and why where it is not let in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from router.config.settings import BudgetScope, CarbonBudget, OnExhausted
from router.core.day_account import DayAccount, Fit
from router.core.refusal import SHED_RETRY_S
from router.errors import CarbonBudgetError, CarbonBudgetHeldError, RefusedError
from router.model import Decision, Request
from router.units import UG_PER_G

# Flags of decisions, and so of receipts.
EXHAUSTED: Final = "carbon_budget_exhausted"
SHADOW: Final = "carbon_budget_shadow"
# What became of requests for which a budget had nothing left, and of what would have become in its
# shadow.
REFUSED, HELD, GREENED, VARIED, WARNED, DEFERRED, SHADOWED = OUTCOMES = (
    "refused", "held", "greenest", "variant", "warned", "deferred", "shadow",
)  # fmt: skip
_REFUSING: Final = frozenset((OnExhausted.SHED, OnExhausted.DEFER))
_THEN_WAITS: Final = "; in a batch, or in the background, it would wait for the next"
# Of an account: a tenant's, a model's, "" for the fleet's; OTHERS: of all without one of their own.
AccountName: TypeAlias = "str | None"
OTHERS: Final = None


class Entry(NamedTuple):
    """An account that a request falls under, by which ``name``, and whether it fits there."""

    budget: CarbonBudget
    account: DayAccount
    fit: Fit
    name: AccountName

    @property
    def exhausted(self) -> bool:
        """Whether the day has nothing left for it."""
        return self.fit is Fit.EXHAUSTED


class Ruling(NamedTuple):
    """What budgets say of a request that would reserve ``ask_ug``. ``refusal``: why it is not let
    in; ``greenest``: whether it has to go where it emits least, ``any_quality``: and with whichever
    variant its caller takes; ``flags``: of its decision."""

    entries: tuple[Entry, ...]
    ask_ug: int
    refusal: RefusedError | None
    greenest: bool
    flags: tuple[str, ...]
    any_quality: bool = False


# Of a decision: None where no budget has a say in it.
Judge: TypeAlias = Callable[[Decision], Ruling | None]


class DayEnd(NamedTuple):
    """Of the day that accounts are of. ``at``: unix s; ``in_s``: as a caller's clock counts, which
    a replay clock outruns."""

    at: float
    in_s: float


def rule(request: Request, entries: Sequence[Entry], ask_ug: int, day_end: DayEnd) -> Ruling:
    """Of a request that falls under ``entries`` and would reserve ``ask_ug``."""
    enforced = [one for one in entries if one.exhausted and not one.budget.shadow]
    flags = [EXHAUSTED] if enforced else []
    if any(one.exhausted and one.budget.shadow for one in entries):
        flags.append(SHADOW)
    then = {one.budget.on_exhausted for one in enforced}
    any_quality = OnExhausted.VARIANT in then
    is_last = OnExhausted.DEFER in then and _cannot_wait_longer(request, day_end)
    greenest = any_quality or is_last or OnExhausted.GREENEST_ONLY in then
    refusal = _refusal(request, entries, ask_ug, day_end)
    return Ruling(tuple(entries), ask_ug, refusal, greenest, tuple(flags), any_quality)


def outcome_of(budget: CarbonBudget) -> str:
    """What becomes of a request that is let in though ``budget`` has nothing left for it."""
    if budget.shadow:
        return SHADOWED
    if budget.on_exhausted is OnExhausted.GREENEST_ONLY:
        return GREENED
    if budget.on_exhausted is OnExhausted.VARIANT:
        return VARIED
    if budget.on_exhausted is OnExhausted.DEFER:
        return DEFERRED
    # One that sheds lets in what was under way, nothing else.
    return WARNED


def _cannot_wait_longer(request: Request, day_end: DayEnd) -> bool:
    """Of one that has waited: no day with a budget of its own begins in time."""
    return 0.0 <= request.can_wait_until < day_end.at


def _refusal(
    request: Request, entries: Sequence[Entry], ask_ug: int, day_end: DayEnd
) -> RefusedError | None:
    """Why a request is not let in; the account that is exhausted before one that is held."""
    held: RefusedError | None = None
    is_last = _cannot_wait_longer(request, day_end)
    for entry in entries:
        budget = entry.budget
        if entry.fit is Fit.FITS or budget.shadow or budget.on_exhausted not in _REFUSING:
            continue
        if entry.exhausted:
            if is_last and budget.on_exhausted is OnExhausted.DEFER:
                continue
            return _exhausted(request, entry, ask_ug, day_end.in_s)
        held = held or _held(request, entry, ask_ug)
    return held


def _held(request: Request, entry: Entry, ask_ug: int) -> CarbonBudgetHeldError:
    text = (
        f"what is left of the carbon budget {_described(request, entry)} is held by requests "
        f"under way or by other gateways, or has yet to be drawn: this one may emit "
        f"{ask_ug / UG_PER_G:.3g} g"
    )
    return CarbonBudgetHeldError(
        text, SHED_RETRY_S, budget=entry.budget.name, account=entry.name, ask_ug=ask_ug
    )


def _exhausted(
    request: Request, entry: Entry, ask_ug: int, day_ends_in_s: float
) -> CarbonBudgetError:
    left_g = max(0, entry.account.left_ug) / UG_PER_G
    limit_g, ask_g = entry.account.limit_ug / UG_PER_G, ask_ug / UG_PER_G
    waits = entry.budget.on_exhausted is OnExhausted.DEFER
    text = (
        f"the carbon budget {_described(request, entry)} has {left_g:.3g} g left of {limit_g:g} "
        f"for this UTC day, and this request may emit {ask_g:.3g} g{_THEN_WAITS if waits else ''}"
    )
    return CarbonBudgetError(
        text, max(0.0, day_ends_in_s), budget=entry.budget.name, account=entry.name, ask_ug=ask_ug,
        waits=waits,
    )  # fmt: skip


def _described(request: Request, entry: Entry) -> str:
    whose = {
        BudgetScope.TENANT: f" of tenant {request.tenant!r}",
        BudgetScope.MODEL: f" of model {request.model!r}",
        BudgetScope.FLEET: "",
    }[entry.budget.per]
    return f"{entry.budget.name!r}{whose}"

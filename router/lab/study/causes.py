"""What a saving is due to: chains of policies in which one thing changes at a time.

A chain leads from a baseline to the policy that was asked for. Its steps are taken in a fixed order
and in its reverse, because causes overlap: packing is worth much to a router that spreads over
dirty grids, and less to one that has left them.

``packing_first``: packing, where, when, waiting, which model, scale-down.
``packing_last``: scale-down, which model, waiting, where, when, packing.

*When* comes after *where* in both: a request that is answered at once can follow the hours only by
going elsewhere. *Waiting*: what need not be answered at once runs when the scheduler lets it go.
*Which model*: requests for an alias are served by the best of its variants, or by any that reaches
its floor.
SCIENCE sections 5 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

from router.model import UNLIMITED, Policy, Spread

LATENCY_FIRST: Final = "latency-first"
# Fields by which a policy fills replicas instead of waking more.
_PACKING: Final = frozenset({"spread", "pack_until", "pack_within", "wake_share"})
_UNPACKED: Final = {
    "spread": Spread.SPREAD, "pack_until": 1.0, "pack_within": 0.0, "wake_share": 0.0,
}  # fmt: skip
# As the shipped latency-first-packed has it: any replica of the nearest region may be packed.
_ANY_OF_REGION: Final = 1000.0


class SavingCause(StrEnum):
    """What a step of a chain changes."""

    PACKING = "packing"
    WHERE = "where"
    WHEN = "when"
    WAITING = "waiting"
    WHICH_MODEL = "which_model"
    SCALE_DOWN = "scale_down"


class ChainOrder(StrEnum):
    """The order in which the steps of a chain are taken."""

    PACKING_FIRST = "packing_first"
    PACKING_LAST = "packing_last"


class PolicyVariant(NamedTuple):
    """A policy, whether idle replicas are released as the scenario's autoscaling says, whether it
    chooses among the variants of the scenario's aliases, or always takes the best, and whether what
    may wait waits, or runs at once."""

    policy: Policy
    releases: bool
    chooses: bool = False
    waits: bool = False


class Levers(NamedTuple):
    """What a scenario has beside policies: autoscaling, aliases, and requests that may wait."""

    releases: bool
    chooses: bool = False
    waits: bool = False


class ChainStep(NamedTuple):
    """``after``: as ``before`` but for what ``cause`` names."""

    cause: SavingCause
    before: PolicyVariant
    after: PolicyVariant


class PolicyChain(NamedTuple):
    """Steps that follow each other from ``baseline`` to ``asked``; none where they are the same."""

    order: ChainOrder
    baseline: PolicyVariant
    asked: PolicyVariant
    steps: tuple[ChainStep, ...]


class PolicyFamily:
    """The policy that was asked for, by degrees: nearest, by annual means, by the hour; each spread
    or packed. Those that ``known`` holds under another name are taken from there.
    """

    def __init__(self, asked: Policy, latency_first: Policy, known: Iterable[Policy] = ()) -> None:
        self.asked = asked
        self._known = {replace(policy, name=""): policy for policy in (*known, asked)}
        self._nearest = {
            False: latency_first,
            True: replace(
                latency_first,
                name=f"{latency_first.name}, packed",
                spread=Spread.PACK,
                pack_until=asked.pack_until,
                pack_within=_ANY_OF_REGION,
            ),
        }

    @property
    def packs(self) -> bool:
        """Whether the policy that was asked for does."""
        return self.asked.spread is Spread.PACK

    def at(self, degree: int, packed: bool) -> Policy:
        """``degree``: 0 the nearest region, 1 the asked policy by annual means, 2 by the hour."""
        if degree == 0:
            return self._named(self._nearest[packed])
        found = self.asked
        if packed != self.packs:
            packing = {"spread": Spread.PACK} if packed else _UNPACKED
            name = f"{found.name}, {'packed' if packed else 'spread'}"
            found = replace(found, name=name, **packing)
        if degree == 1 and _weighs_carbon(found) and not found.annual_mean:
            found = replace(found, name=f"{found.name}, annual means", annual_mean=True)
        return self._named(found)

    def packed_as_asked(self, policy: Policy) -> Policy:
        """``policy`` with the packing of the one that was asked for."""
        packing = {name: getattr(self.asked, name) for name in _PACKING}
        name = f"{policy.name}, {f'packed as {self.asked.name}' if self.packs else 'spread'}"
        return self._named(replace(policy, name=name, **packing))

    def _named(self, policy: Policy) -> Policy:
        return self._known.get(replace(policy, name=""), policy)


def chain(
    family: PolicyFamily, baseline: PolicyVariant, levers: Levers, order: ChainOrder
) -> PolicyChain:
    """From ``baseline`` to the family's policy. ``levers``: of the latter.

    A baseline that is no member of the family is exchanged for the one nearest to it; that step
    counts as what the two differ in: *where*, unless it is packing or the hours alone.
    """
    asked = PolicyVariant(family.asked, *levers)
    was = Levers(*baseline[1:])
    degree, packed = _degree(baseline.policy), baseline.policy.spread is Spread.PACK
    later, both = was._replace(waits=levers.waits), levers._replace(releases=was.releases)
    if not _differing(baseline.policy, family.asked):
        policies: list[Policy] = []
    elif order is ChainOrder.PACKING_FIRST:
        # What goes by load or turns cannot be packed: packing undoes what it goes by.
        first = family.at(0, packed) if degree == 0 else family.packed_as_asked(baseline.policy)
        policies = [first, *(family.at(higher, family.packs) for higher in range(degree, 3))]
    else:
        policies = [family.at(higher, packed) for higher in range(degree, 3)]
    if order is ChainOrder.PACKING_FIRST:
        passed = [PolicyVariant(policy, *was) for policy in policies]
        passed += [PolicyVariant(family.asked, *some) for some in (later, both)]
    else:
        passed = [
            PolicyVariant(baseline.policy, *some)
            for some in (
                was._replace(releases=levers.releases),
                levers._replace(waits=was.waits),
                levers,
            )
        ]
        passed += [PolicyVariant(policy, *levers) for policy in policies]
    passed = [baseline, *passed, asked]
    steps = [
        ChainStep(_cause(before, after), before, after)
        for before, after in pairwise(passed)
        if not _same(before, after)
    ]
    return PolicyChain(order, baseline, asked, tuple(steps))


def chains_of(
    asked: Sequence[Policy], baselines: Sequence[Policy], levers: Levers
) -> tuple[PolicyChain, ...]:
    """From every one of ``baselines``, `LATENCY_FIRST` among them, to each asked policy, in both
    orders.

    ``levers``: those of the scenario. No baseline waits. With any lever there is one baseline more,
    the nearest region with idle replicas kept on and the best variants, which is what scale-down
    and the choice of a model are measured against. Where requests may wait the policy itself
    without waiting and choice is another, and where it also releases, without any lever: against
    it the first cause of each order is what that is worth alone, and the total what all are
    together.
    """
    nearest = next(one for one in baselines if one.name == LATENCY_FIRST)
    at_once = levers._replace(waits=False)
    starts = [PolicyVariant(one, *at_once) for one in baselines]
    if any(at_once):
        starts.insert(0, PolicyVariant(nearest, False))
    found = []
    for one in asked:
        family = PolicyFamily(one, nearest, (*baselines, *asked))
        mine = [*starts]
        if levers.waits:
            mine.append(PolicyVariant(one, *at_once._replace(chooses=False)))
            mine.append(PolicyVariant(one, False))
        found += [
            chain(family, start, levers, order)
            for start in dict.fromkeys(mine)
            for order in ChainOrder
            if start != PolicyVariant(one, *levers)
        ]
    return tuple(found)


def _degree(policy: Policy) -> int:
    if not _weighs_carbon(policy):
        return 0
    return 1 if policy.annual_mean else 2


def _weighs_carbon(policy: Policy) -> bool:
    limits = (policy.max_gco2e, policy.max_g_per_kwh)
    return policy.weights.per_gco2e > 0.0 or any(limit < UNLIMITED for limit in limits)


def _same(one: PolicyVariant, other: PolicyVariant) -> bool:
    return one[1:] == other[1:] and not _differing(one.policy, other.policy)


def _differing(one: Policy, other: Policy) -> set[str]:
    names = (field.name for field in fields(Policy) if field.name != "name")
    return {name for name in names if getattr(one, name) != getattr(other, name)}


def _cause(before: PolicyVariant, after: PolicyVariant) -> SavingCause:
    if before.releases != after.releases:
        return SavingCause.SCALE_DOWN
    if before.chooses != after.chooses:
        return SavingCause.WHICH_MODEL
    if before.waits != after.waits:
        return SavingCause.WAITING
    changed = _differing(before.policy, after.policy)
    if changed <= _PACKING:
        return SavingCause.PACKING
    return SavingCause.WHEN if changed == {"annual_mean"} else SavingCause.WHERE


def variants(chains: Iterable[PolicyChain]) -> tuple[PolicyVariant, ...]:
    """Every variant that ``chains`` pass through, once, in order."""
    found: dict[PolicyVariant, None] = {}
    for one in chains:
        found |= dict.fromkeys((one.baseline, one.asked))
        found |= dict.fromkeys(step.after for step in one.steps)
    return tuple(found)


def shares(one: PolicyChain, grams: Callable[[PolicyVariant], float]) -> dict[SavingCause, float]:
    """Of each cause, the share of the baseline's ``grams`` (at equal work, such as g per completed
    request) that its steps save; negative: they cost. The sum is what the asked policy saves. NaN
    where the baseline has no grams.
    """
    whole = grams(one.baseline)
    found = dict.fromkeys(SavingCause, 0.0 if whole > 0.0 else math.nan)
    for step in one.steps:
        if whole > 0.0:
            found[step.cause] += (grams(step.before) - grams(step.after)) / whole
    return found


class SeedInterval(NamedTuple):
    """Mean over seeds, and the 90 % interval of that mean (Student's t); NaN of one seed."""

    mean: float
    low: float
    high: float


# 0.95 quantile of Student's t by degrees of freedom, from 1 on (Abramowitz and Stegun, 26.10).
_T: Final = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782,
             1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725, 1.721, 1.717, 1.714, 1.711,
             1.708, 1.706, 1.703, 1.701, 1.699, 1.697)  # fmt: skip


def interval(values: Sequence[float]) -> SeedInterval:
    """Of one figure by seed."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2 or math.isnan(mean):
        return SeedInterval(mean, math.nan, math.nan)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    # Beyond the table its last entry stands, which is a little too wide.
    half = _T[min(count - 1, len(_T)) - 1] * math.sqrt(variance / count)
    return SeedInterval(mean, mean - half, mean + half)


def intervals(
    one: PolicyChain, by_seed: Sequence[Callable[[PolicyVariant], float]]
) -> Mapping[SavingCause, SeedInterval]:
    """`shares` by cause over seeds; ``by_seed``: grams of a variant under each."""
    found = [shares(one, grams) for grams in by_seed]
    return {cause: interval([by_cause[cause] for by_cause in found]) for cause in SavingCause}

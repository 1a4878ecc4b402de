"""The newest decisions taken again by another of the policies that are shipped, before that is
rolled out.

First order only, as `carbon-router replay` is: the board is as each decision saw it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from router.config.loading import parse_policy, shipped_policies
from router.console.decisions import ShownDecision
from router.core.columns import Snapshot, build_snapshot
from router.core.policy_effect import Effects, PolicyEffect
from router.core.seen import DecisionKind, decide_again
from router.errors import ConfigError, MixedBasisError, RequestError
from router.model import Policy
from router.telemetry.view import Json
from router.unknown_figures import plain_values

# Snapshots on which columns are built anew: of a thousand endpoints that takes milliseconds each.
MOST_SNAPSHOTS: Final = 64


def policy_names() -> tuple[str, ...]:
    """Those that may be asked for. A path is none: nobody reads files through the console."""
    return tuple(shipped_policies())


def what_if(decisions: Sequence[ShownDecision], chosen: str) -> PolicyEffect:
    """The newest of ``decisions`` by the shipped policy ``chosen``; may run beside the event loop,
    on columns of its own.

    Raises ConfigError for a name that none has, and where it wants carbon data of another basis.
    """
    if chosen not in policy_names():
        raise ConfigError("policy", [("", f"{chosen[:64]!r} is no shipped policy")])
    schema, name = parse_policy(chosen, Path())
    effects = Effects()
    built: dict[int, Snapshot] = {}
    notes: dict[str, None] = {}
    left_out = 0
    for one in reversed(decisions):
        sight = one.kept.sight
        if one.kept.kind is not DecisionKind.FIRST:
            continue
        snapshot = built.get(id(sight.snapshot))
        if snapshot is None:
            if len(built) >= MOST_SNAPSHOTS:
                break
            policy = schema.build(name, sight.snapshot.policy.signal)
            snapshot = built[id(sight.snapshot)] = _by(sight.snapshot, policy)
            notes |= dict.fromkeys(_notes(policy, sight.snapshot.policy))
        try:
            now = decide_again(sight.seen, snapshot)
        except (RequestError, ValueError):
            # Of another fleet than its snapshot has: nothing can be said of it.
            left_out += 1
            continue
        effects.add(sight.seen, sight.probability, sight.snapshot, sight.answered, now)
    if left_out:
        notes[f"{left_out} decisions could not be taken again"] = None
    return effects.of(chosen, tuple(notes))


def _by(then: Snapshot, policy: Policy) -> Snapshot:
    wanted, had = policy.signal, then.policy.signal
    try:
        if wanted != had:
            raise MixedBasisError(f"{wanted} {had}")
        return build_snapshot(
            then.layout, policy, then.forecasts, then.annual_means, then.built_at, then.version
        )
    except MixedBasisError:
        text = (
            f"wants {wanted.basis}/{wanted.factors}, and these decisions were taken by "
            f"{had.basis}/{had.factors}"
        )
        raise ConfigError(policy.name, [("signal", text)]) from None


def _notes(policy: Policy, then: Policy) -> tuple[str, ...]:
    if (policy.quantile, policy.tpot_quantile) == (then.quantile, then.tpot_quantile):
        return ()
    return (
        f"latencies stay at the quantiles of {then.name} ({then.quantile:g}, "
        f"{then.tpot_quantile:g}), not at this policy's ({policy.quantile:g}, "
        f"{policy.tpot_quantile:g})",
    )


def effect_document(effect: PolicyEffect) -> dict[str, Json]:
    """As the feed has it."""
    found: dict[str, Json] = plain_values(effect)
    return found

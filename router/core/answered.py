"""What a decision answered, as names and figures that are kept and compared bit for bit."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from router.core.seen import Answered

# Of a decision, and of its burden; latencies in ms at the policy's quantile.
FIGURES: Final = (
    "run_g_per_kwh", "rtt_ms", "ttft_ms", "tpot_ms", "e2e_ms", "energy_j", "gco2e",
    "latency_first_gco2e", "prefill_ms", "queue_ms", "cached_tokens",
)  # fmt: skip
BURDEN_FIGURES: Final = ("prompt_ms", "pace_ms", "cached_tokens", "pace_cap_ms", "paced_ms")
ANSWER_FIGURES: Final = (*FIGURES, *(f"burden_{name}" for name in BURDEN_FIGURES))


class KeptAnswer(NamedTuple):
    """``refusal``: the reason, "" of what was not refused; then the other names are "" and there
    are no ``figures``, which are else in the order of ANSWER_FIGURES. ``relaxed``: rungs of the
    policy's ladder that were taken."""

    refusal: str
    endpoint: str = ""
    version: str = ""
    latency_first_endpoint: str = ""
    relaxed: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    figures: tuple[float, ...] = ()

    def figure(self, name: str) -> float:
        """One of ANSWER_FIGURES; NaN of what was refused."""
        return self.figures[ANSWER_FIGURES.index(name)] if self.figures else math.nan


def answer_of(answered: Answered) -> KeptAnswer:
    """What is kept of it."""
    decision = answered.decision
    if decision is None:
        return KeptAnswer(answered.refusal)
    burden = decision.burden
    return KeptAnswer(
        "",
        decision.endpoint.name,
        decision.served.version,
        decision.latency_first_endpoint,
        tuple(str(rung) for rung in decision.relaxed),
        decision.flags,
        (
            *(float(getattr(decision, name)) for name in FIGURES),
            *(float(getattr(burden, name)) for name in BURDEN_FIGURES),
        ),
    )


def differences(then: KeptAnswer, now: KeptAnswer) -> tuple[str, ...]:
    """What of ``then`` is otherwise by ``now``; none where they are the same, every bit of them,
    one NaN being as another."""
    found = [
        name
        for name in ("refusal", "endpoint", "version", "latency_first_endpoint", "relaxed", "flags")
        if getattr(then, name) != getattr(now, name)
    ]
    if then.figures and now.figures:
        pairs = zip(ANSWER_FIGURES, then.figures, now.figures, strict=True)
        found += [name for name, old, new in pairs if old != new and (old == old or new == new)]
    return tuple(found)

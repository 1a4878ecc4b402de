"""An operator's policy: what a cost is made of, and what gives way where nothing is feasible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from router.model.intensity import Signal
from router.model.request import Budget


class Weights(NamedTuple):
    """The score's terms: cost = sum of weight * term, each in its own unit."""

    per_gco2e: float = 0.0
    per_ttft_ms: float = 0.0
    per_e2e_ms: float = 0.0
    per_load: float = 0.0
    per_turn: float = 0.0


class Energy(StrEnum):
    """Which joules decide: priced at the load a replica is meant for, or short-run marginal."""

    LONG_RUN = "long_run"
    SHORT_RUN = "short_run"


class Spread(StrEnum):
    """Inside a near-tie: fill the fullest replica, or take the emptiest."""

    PACK = "pack"
    SPREAD = "spread"


class Relax(StrEnum):
    """One rung of the fallback ladder: the constraint dropped when nothing is feasible."""

    CARBON = "carbon"
    POLICY_LATENCY = "policy_latency"


# Which of the policy's latency budgets a rung drops; what else one drops is in `core.rungs`.
DROPPED_BUDGETS: Final[Mapping[Relax, tuple[str, ...]]] = {
    Relax.POLICY_LATENCY: ("ttft_ms", "tpot_ms", "e2e_ms"),
}


class StaleCarbon(StrEnum):
    """What to do with a grid zone whose best intensity is stale or mere climatology."""

    USE_FLAGGED = "use_flagged"
    EXCLUDE = "exclude"


@dataclass(frozen=True, slots=True)
class Policy:
    """An operator's policy as values; every field is documented in policies/README.md."""

    name: str
    weights: Weights
    energy: Energy
    annual_mean: bool
    signal: Signal
    near_tie: float
    spread: Spread
    pack_until: float
    quantile: float
    tpot_quantile: float
    budget: Budget
    max_gco2e: float
    max_g_per_kwh: float
    ladder: tuple[Relax, ...]
    stale_carbon: StaleCarbon
    stale_after_s: float
    wake_share: float = 0.0
    scarcity: float = 0.0
    residency: frozenset[str] = frozenset()
    pack_within: float = 0.0

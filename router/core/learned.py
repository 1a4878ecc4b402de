"""What a gateway learned of its fleet, as one plain value: what outlives a process.

Each part is made and taken back by who learned it (`Board`, `LengthModel`, `TokenBytesModel`,
`Combiner`). A value that comes back was outside: whoever takes it leaves out what cannot be (not
finite, out of range, of another profile), entry by entry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Names of tenants are callers' words: longer ones, and those that no file could hold, are not kept.
_MOST_NAME: Final = 200
# Of lessons, in whole numbers that every reader can hold.
MOST_LESSONS: Final = 2**53


@dataclass(frozen=True, slots=True)
class LatencyLearned:
    """Of one endpoint: the states of `router.core.latency`, and its own lessons in them.

    ``kind``: `router.core.twins.kind_key` of the endpoint, whose errors these are; ``z``: the
    deviate of the quantile that was aimed at.
    """

    endpoint: str
    kind: str
    z: float
    wait: tuple[float, ...]
    wait_lessons: int
    tpot: tuple[float, ...]
    tpot_lessons: int


@dataclass(frozen=True, slots=True)
class MarginsLearned:
    """Of what callers are told of one endpoint's latency, at the quantile whose deviate is ``z``.
    ``waits``: of requests that have to wait for a place there; ``logs``: of TTFT, TPOT and the
    whole in turn, by `router.core.margins.FIGURE_STATES`. Three numbers, as earlier gateways keep
    them, are left out by this one, and these by them.

    ``kind``: as of `LatencyLearned`.
    """

    endpoint: str
    kind: str
    waits: bool
    z: float
    logs: tuple[float, ...]
    lessons: int


@dataclass(frozen=True, slots=True)
class StartLearned:
    """What untried endpoints of one kind start from, as `router.core.twins.Twins` has it."""

    kind: str
    wait: tuple[float, ...]
    tpot: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LengthsLearned:
    """Of one model's requests by one tenant; None: what tenants unknown so far start from."""

    model: str
    tenant: str | None
    lengths: tuple[float, ...]
    lessons: int


@dataclass(frozen=True, slots=True)
class BytesLearned:
    """Bytes of text per token of one model: `router.core.tokens.TokenBytes`."""

    model: str
    log_median: float
    sd: float
    lessons: int


@dataclass(frozen=True, slots=True)
class SkillLearned:
    """How far a grid zone's published forecasts and our own were off, at each lead:
    `router.carbon.chain.combine.Skill` (hours met; g/kWh of the published, the own and the mixed).

    ``signal``: basis and factors, of what was forecast.
    """

    signal: str
    grid_zone: str
    errors: tuple[tuple[int, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """All of it. Tenants in the order of their last request."""

    latency: tuple[LatencyLearned, ...] = ()
    starts: tuple[StartLearned, ...] = ()
    lengths: tuple[LengthsLearned, ...] = ()
    answer_bytes: tuple[BytesLearned, ...] = ()
    prompt_bytes: tuple[BytesLearned, ...] = ()
    skills: tuple[SkillLearned, ...] = ()
    margins: tuple[MarginsLearned, ...] = ()


def is_keepable(name: str) -> bool:
    """Whether a caller's word is short and printable, so that it can be written down."""
    return len(name) <= _MOST_NAME and name.isprintable()


def all_within(values: Sequence[float], ranges: Sequence[tuple[float, float]]) -> bool:
    """Whether there is a number for each of ``ranges`` (least, most), and within it."""
    return len(values) == len(ranges) and all(
        math.isfinite(value) and least <= value <= most
        for value, (least, most) in zip(values, ranges, strict=True)
    )

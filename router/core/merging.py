"""What several gateways learned of one fleet, made one: by each endpoint, tenant and model.

Each learns from requests of its own, so each is a sample of all. Taken is the entry in the middle
of all that there are, by the one figure that matters most of it, each weighed by its lessons up to
the memory of what learned it, and by its age. So an entry stays whole, as it was learned; whoever
is odd, or lies, is passed by while the others are the heavier half; what one alone knows is known;
and taking in twice, or in another order, changes nothing. What a witness was told itself is heard
where nobody speaks of his own evidence (`router.core.evidence`).

The wait for the first token has the path from gateway to endpoint in it, and so have the margins of
what is told of it: only those in the same place know them. What endpoints of one kind have in
common stands in for the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from router.core.latency import DELAY_MS, FACTOR, LEVEL, RATIO_MEAN, wait_prior
from router.core.learned import (
    BytesLearned,
    LatencyLearned,
    Learned,
    LengthsLearned,
    MarginsLearned,
    SkillLearned,
    StartLearned,
)
from router.core.lengths import LOG_MEAN
from router.core.margins import MEMORY as MARGINS_MEMORY
from router.core.twins import FULL_VOTE

# What was learned an hour before weighs half as much: load and servers are others by then.
HALF_LIFE_S: Final = 3600.0
# Beyond, all is as old: nobody is left who knows better.
_OLDEST_S: Final = 400.0 * HALF_LIFE_S
# After so many lessons an entry is as good as it gets: the memories of what learns.
LENGTHS_MEMORY: Final = 50.0
_SKILL_MEMORY: Final = 168.0
# Of one gateway's endpoints of a kind, so many votes count: beyond them its median is good.
_MOST_VOTES: Final = 3.0
# Of what nothing was learned of: heard where nobody else speaks.
_NO_EVIDENCE: Final = 1e-9
# A prefill by which waits are compared, ms.
_USUAL_PREFILL_MS: Final = 100.0

_K = TypeVar("_K", bound=Hashable)
_T = TypeVar("_T")


class Witness(NamedTuple):
    """What one process learned, and ``age_s`` ago. ``here``: whether it is where this one is;
    ``is_own``: whether it is its own evidence, and not what others told it."""

    learned: Learned
    age_s: float
    here: bool = True
    is_own: bool = True


class _Voice(NamedTuple, Generic[_T]):
    """One entry among those of the same thing. ``figure``: by which they are put in order;
    ``content``: all else of it, so that the order is the same whoever asks."""

    figure: float
    content: tuple[Any, ...]
    weight: float
    entry: _T


_Told: TypeAlias = Sequence[tuple[Witness, float]]


def merge(witnesses: Sequence[Witness]) -> Learned:
    """One of all. What is in them is taken for what can be: sift it first.

    In the order of names; tenants, of which there is room for some only, by their lessons.
    """
    told = [(one, _credit(one)) for one in witnesses]
    lengths = _middles(
        ((one.model, one.tenant), _lengths_voice(one, fresh))
        for witness, fresh in told
        for one in witness.learned.lengths
    )
    skills = _middles(
        ((one.signal, one.grid_zone), _skill_voice(one, fresh))
        for witness, fresh in told
        for one in witness.learned.skills
    )
    margins = _middles(
        ((one.endpoint, one.kind, one.waits, one.z), _margins_voice(one, fresh))
        for witness, fresh in told
        if witness.here
        for one in witness.learned.margins
    )
    return Learned(
        _latency(told),
        _starts(told),
        tuple(sorted(lengths.values(), key=lambda one: (one.lessons, one.model, one.tenant or ""))),
        _bytes(told, lambda learned: learned.answer_bytes),
        _bytes(told, lambda learned: learned.prompt_bytes),
        _in_order(skills),
        _in_order(margins),
    )


def _credit(witness: Witness) -> float:
    # Who speaks of the time to come has another clock.
    fresh = math.exp2(-min(max(witness.age_s, 0.0), _OLDEST_S) / HALF_LIFE_S)
    return fresh if witness.is_own else fresh * _NO_EVIDENCE


def _weight(lessons: float, memory: float, fresh: float) -> float:
    return max(min(lessons / memory, 1.0), _NO_EVIDENCE) * fresh


def _middles(voices: Iterable[tuple[_K, _Voice[_T]]]) -> dict[_K, _T]:
    """Of each thing the entry at which half of the weight of its entries is reached."""
    by_thing: dict[_K, list[_Voice[_T]]] = {}
    for thing, voice in voices:
        by_thing.setdefault(thing, []).append(voice)
    return {thing: _middle(found) for thing, found in by_thing.items()}


def _middle(voices: list[_Voice[_T]]) -> _T:
    ordered = sorted(voices, key=lambda voice: (voice.figure, voice.content, voice.weight))
    half, reached = math.fsum(voice.weight for voice in ordered) / 2.0, 0.0
    for voice in ordered:
        reached += voice.weight
        if reached >= half:
            return voice.entry
    return ordered[-1].entry


def _in_order(entries: dict[Any, _T]) -> tuple[_T, ...]:
    return tuple(entries[thing] for thing in sorted(entries))


def _latency(told: _Told) -> tuple[LatencyLearned, ...]:
    """Wait and pace of an endpoint apart: they have lessons of their own."""
    entries = [
        (one, told_by.here, fresh) for told_by, fresh in told for one in told_by.learned.latency
    ]
    waits = _middles(
        (
            (one.endpoint, one.kind),
            _Voice(
                _usual_wait_ms(one.wait),
                (one.wait, one.wait_lessons, one.z),
                _weight(one.wait_lessons, FULL_VOTE, fresh),
                one,
            ),
        )
        for one, here, fresh in entries
        if one.wait_lessons and here
    )
    paces = _middles(
        (
            (one.endpoint, one.kind),
            _Voice(
                one.tpot[RATIO_MEAN],
                (one.tpot, one.tpot_lessons),
                _weight(one.tpot_lessons, FULL_VOTE, fresh),
                one,
            ),
        )
        for one, _, fresh in entries
        if one.tpot_lessons
    )
    both = {
        thing: _joined(waits.get(thing), paces.get(thing)) for thing in waits.keys() | paces.keys()
    }
    return _in_order(both)


def _joined(wait: LatencyLearned | None, pace: LatencyLearned | None) -> LatencyLearned:
    """The wait of one and the pace of another entry of an endpoint; of neither: the prior."""
    one = wait or pace
    assert one is not None
    return LatencyLearned(
        one.endpoint,
        one.kind,
        wait.z if wait else 0.0,
        wait.wait if wait else tuple(wait_prior().tolist()),
        wait.wait_lessons if wait else 0,
        # What stands in an entry without lessons of its pace is what its twins know.
        pace.tpot if pace else one.tpot,
        pace.tpot_lessons if pace else 0,
    )


def _usual_wait_ms(state: Sequence[float]) -> float:
    return (state[DELAY_MS] + state[FACTOR] * _USUAL_PREFILL_MS) * math.exp(state[LEVEL])


def _starts(told: _Told) -> tuple[StartLearned, ...]:
    """Figure by figure, as twins themselves do; whose endpoints of the kind taught more is heard
    more."""
    waits: list[tuple[tuple[str, int], _Voice[float]]] = []
    paces: list[tuple[tuple[str, int], _Voice[float]]] = []
    for witness, fresh in told:
        votes: dict[str, float] = {}
        for one in witness.learned.latency:
            lessons = max(one.wait_lessons, one.tpot_lessons)
            votes[one.kind] = votes.get(one.kind, 0.0) + min(lessons / FULL_VOTE, 1.0)
        for start in witness.learned.starts:
            weight = _weight(votes.get(start.kind, 0.0), _MOST_VOTES, fresh)
            for voices, figures in ((waits, start.wait), (paces, start.tpot)):
                voices += [
                    ((start.kind, place), _Voice(figure, (), weight, figure))
                    for place, figure in enumerate(figures)
                ]
    wait_of, pace_of = _by_kind(_middles(waits)), _by_kind(_middles(paces))
    return tuple(StartLearned(kind, wait_of[kind], pace_of[kind]) for kind in sorted(wait_of))


def _by_kind(figures: dict[tuple[str, int], float]) -> dict[str, tuple[float, ...]]:
    found: dict[str, tuple[float, ...]] = {}
    for kind, place in sorted(figures):
        found[kind] = (*found.get(kind, ()), figures[kind, place])
    return found


def _lengths_voice(one: LengthsLearned, fresh: float) -> _Voice[LengthsLearned]:
    weight = _weight(one.lessons, LENGTHS_MEMORY, fresh)
    return _Voice(one.lengths[LOG_MEAN], (one.lengths, one.lessons), weight, one)


def _bytes(
    told: _Told, of: Callable[[Learned], Sequence[BytesLearned]]
) -> tuple[BytesLearned, ...]:
    return _in_order(
        _middles(
            (
                one.model,
                _Voice(
                    one.log_median,
                    (one.sd, one.lessons),
                    _weight(one.lessons, LENGTHS_MEMORY, fresh),
                    one,
                ),
            )
            for witness, fresh in told
            for one in of(witness.learned)
        )
    )


def _margins_voice(one: MarginsLearned, fresh: float) -> _Voice[MarginsLearned]:
    """The last of them is that of the whole request."""
    weight = _weight(one.lessons, MARGINS_MEMORY, fresh)
    return _Voice(one.logs[-1], (one.logs, one.lessons), weight, one)


def _skill_voice(one: SkillLearned, fresh: float) -> _Voice[SkillLearned]:
    """All watched the same grid, those that watched for longer saw more of it."""
    hours = max(errors[0] for errors in one.errors)
    published_g, own_g = (sum(errors[at] for errors in one.errors) for at in (1, 2))
    share = own_g / (own_g + published_g) if own_g + published_g > 0.0 else 0.5
    return _Voice(share, (one.errors,), _weight(hours, _SKILL_MEMORY, fresh), one)

"""What of what a process learned is its own evidence, and what it took up from others.

Of everything that counts its lessons, those that came with what was taken up are remembered; what
was added since is the process's own. So what it tells others is never what they told it, and what
it takes up replaces what it had, and adds nothing to it: no lesson is counted twice.

Own evidence ages like any: halved each `merging.HALF_LIFE_S` in which nothing was added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

from router.core.learned import (
    BytesLearned,
    LatencyLearned,
    Learned,
    LengthsLearned,
    MarginsLearned,
)
from router.core.margins import MEMORY as MARGINS_MEMORY
from router.core.merging import HALF_LIFE_S, LENGTHS_MEMORY
from router.core.twins import FULL_VOTE

# Of full evidence: who has more of a thing himself takes up nothing of it.
LITTLE: Final = 0.25

_Thing = tuple[str, Hashable]
_T = TypeVar("_T", LengthsLearned, BytesLearned, MarginsLearned)

_WAIT, _PACE, _LENGTHS, _ANSWERS, _PROMPTS = "wait", "pace", "lengths", "answers", "prompts"
_MARGINS = "margins"
_MEMORY: Final = {_WAIT: FULL_VOTE, _PACE: FULL_VOTE, _MARGINS: MARGINS_MEMORY}


class Told(NamedTuple):
    """``own``: first-hand, its lessons those that were added here, and at least one; ``others``:
    what was taken up and nothing added to."""

    own: Learned
    others: Learned


class _Evidence(NamedTuple):
    """``grew_at``: monotonic, s, when it was last found to have grown."""

    adopted: int
    lessons: int
    grew_at: float


class Evidence:
    """Of one process. Pure: ``now`` is monotonic, s. Not safe for threads."""

    def __init__(self) -> None:
        self._known: dict[_Thing, _Evidence] = {}

    def took_up(self, learned: Learned, now: float) -> None:
        """All of ``learned`` is what others, or a process before this one, learned."""
        for thing, lessons in _lessons(learned):
            self._known[thing] = _Evidence(lessons, lessons, now)

    def told(self, learned: Learned, now: float) -> Told:
        """``learned``, all that is known here now, divided by whose evidence it is."""
        self._look(learned, now)
        own: list[LatencyLearned] = []
        others: list[LatencyLearned] = []
        for one in learned.latency:
            wait = self._own((_WAIT, one.endpoint), now)
            pace = self._own((_PACE, one.endpoint), now)
            if wait or pace:
                own.append(replace(one, wait_lessons=wait, tpot_lessons=pace))
            kept = replace(
                one,
                wait_lessons=0 if wait else one.wait_lessons,
                tpot_lessons=0 if pace else one.tpot_lessons,
            )
            if kept.wait_lessons or kept.tpot_lessons:
                others.append(kept)
        lengths = self._divided(learned.lengths, _lengths_of, now)
        answers = self._divided(learned.answer_bytes, _answers_of, now)
        prompts = self._divided(learned.prompt_bytes, _prompts_of, now)
        margins = self._divided(learned.margins, _margins_of, now)
        return Told(
            Learned(
                tuple(own), learned.starts, lengths[0], answers[0], prompts[0], learned.skills,
                margins[0],
            ),
            Learned(tuple(others), (), lengths[1], answers[1], prompts[1], (), margins[1]),
        )  # fmt: skip

    def lacking(self, known: Learned, merged: Learned, now: float) -> Learned:
        """What of ``merged``, made of what all told, is to be taken up; it counts as taken up.

        That is what was learned elsewhere of things of which little was learned here. ``known``: as
        when `told` was last asked, which is one of those that all told. Of latency, a part without
        lessons is to be left as it is.
        """
        states = dict(_states(known))
        found = {
            thing: state
            for thing, state in _states(merged)
            if state != states.get(thing) and self._weight(thing, now) < LITTLE
        }
        latency = (
            replace(
                one,
                wait_lessons=one.wait_lessons if (_WAIT, one.endpoint) in found else 0,
                tpot_lessons=one.tpot_lessons if (_PACE, one.endpoint) in found else 0,
            )
            for one in merged.latency
        )
        taken = Learned(
            latency=tuple(one for one in latency if one.wait_lessons or one.tpot_lessons),
            lengths=tuple(one for one in merged.lengths if _lengths_of(one) in found),
            answer_bytes=tuple(one for one in merged.answer_bytes if _answers_of(one) in found),
            prompt_bytes=tuple(one for one in merged.prompt_bytes if _prompts_of(one) in found),
            skills=merged.skills,
            margins=tuple(one for one in merged.margins if _margins_of(one) in found),
        )
        self.took_up(taken, now)
        return taken

    def _look(self, learned: Learned, now: float) -> None:
        known: dict[_Thing, _Evidence] = {}
        for thing, lessons in _lessons(learned):
            before = self._known.get(thing)
            if before is None or lessons < before.lessons:
                # It began anew, and forgot what it had taken up.
                before = _Evidence(0, 0, now)
            grew_at = now if lessons > before.lessons else before.grew_at
            known[thing] = _Evidence(before.adopted, lessons, grew_at)
        self._known = known

    def _own(self, thing: _Thing, now: float) -> int:
        """Own lessons, faded, 1 at the least; 0 where there are none."""
        one = self._known.get(thing)
        if one is None or one.lessons <= one.adopted:
            return 0
        return max(1, round((one.lessons - one.adopted) * _faded(one, now)))

    def _weight(self, thing: _Thing, now: float) -> float:
        """Of own evidence, 0 to 1, as in `merging`."""
        one = self._known.get(thing)
        if one is None:
            return 0.0
        memory = _MEMORY.get(thing[0], LENGTHS_MEMORY)
        return min((one.lessons - one.adopted) / memory, 1.0) * _faded(one, now)

    def _divided(
        self, entries: Iterable[_T], thing_of: Callable[[_T], _Thing], now: float
    ) -> tuple[tuple[_T, ...], tuple[_T, ...]]:
        own: list[_T] = []
        others: list[_T] = []
        for one in entries:
            lessons = self._own(thing_of(one), now)
            if lessons:
                own.append(replace(one, lessons=lessons))
            else:
                others.append(one)
        return tuple(own), tuple(others)


def _faded(one: _Evidence, now: float) -> float:
    return math.exp2(-max(now - one.grew_at, 0.0) / HALF_LIFE_S)


def _lengths_of(one: LengthsLearned) -> _Thing:
    return _LENGTHS, (one.model, one.tenant)


def _answers_of(one: BytesLearned) -> _Thing:
    return _ANSWERS, one.model


def _prompts_of(one: BytesLearned) -> _Thing:
    return _PROMPTS, one.model


def _margins_of(one: MarginsLearned) -> _Thing:
    return _MARGINS, (one.endpoint, one.waits)


def _lessons(learned: Learned) -> Iterator[tuple[_Thing, int]]:
    """How many lessons are in each thing that has any."""
    for latency in learned.latency:
        if latency.wait_lessons:
            yield (_WAIT, latency.endpoint), latency.wait_lessons
        if latency.tpot_lessons:
            yield (_PACE, latency.endpoint), latency.tpot_lessons
    for thing, one in _counted(learned):
        if one.lessons:
            yield thing, one.lessons


def _states(learned: Learned) -> Iterator[tuple[_Thing, Any]]:
    """What is known of each thing that has lessons, their number aside."""
    for latency in learned.latency:
        if latency.wait_lessons:
            yield (_WAIT, latency.endpoint), latency.wait
        if latency.tpot_lessons:
            yield (_PACE, latency.endpoint), latency.tpot
    for thing, one in _counted(learned):
        if one.lessons:
            yield thing, replace(one, lessons=0)


def _counted(
    learned: Learned,
) -> Iterator[tuple[_Thing, LengthsLearned | BytesLearned | MarginsLearned]]:
    yield from ((_lengths_of(one), one) for one in learned.lengths)
    yield from ((_answers_of(one), one) for one in learned.answer_bytes)
    yield from ((_prompts_of(one), one) for one in learned.prompt_bytes)
    yield from ((_margins_of(one), one) for one in learned.margins)

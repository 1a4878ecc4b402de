"""Whose evidence is whose: no lesson is told as one's own that others taught, and none twice."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.evidence import LITTLE, Evidence
from router.core.learned import (
    BytesLearned,
    LatencyLearned,
    Learned,
    LengthsLearned,
    MarginsLearned,
)
from router.core.merging import HALF_LIFE_S, Witness, merge

STATE = (1.0,) * 5


def lengths(lessons, tenant="acme", state=STATE):
    return LengthsLearned("m", tenant, state, lessons)


def latency(wait, pace, state=STATE):
    return LatencyLearned("e", "k", 1.6, state, wait, (0.0, 1.0), pace)


def knowing(*some, **parts):
    return Learned(lengths=some, **parts)


def test_what_was_taken_up_is_not_ones_own():
    evidence = Evidence()
    evidence.took_up(knowing(lengths(40)), 0.0)
    told = evidence.told(knowing(lengths(40)), 0.0)
    assert (told.own, told.others) == (Learned(), knowing(lengths(40)))
    told = evidence.told(knowing(lengths(43)), 0.0)
    assert (told.own, told.others) == (knowing(lengths(3)), Learned())


def test_of_latency_wait_and_pace_are_told_apart():
    evidence = Evidence()
    evidence.took_up(Learned((latency(10, 10),)), 0.0)
    told = evidence.told(Learned((latency(14, 10),)), 0.0)
    assert told.own.latency == (latency(4, 0),)
    assert told.others.latency == (latency(0, 10),)


def test_margins_of_those_that_wait_and_of_others_are_told_apart():
    def margins(waits, lessons):
        return MarginsLearned("e", "k", waits, 1.6, (0.1, 0.2, 0.3), lessons)

    evidence = Evidence()
    evidence.took_up(Learned(margins=(margins(False, 10), margins(True, 10))), 0.0)
    known = Learned(margins=(margins(False, 14), margins(True, 10)))
    told = evidence.told(known, 0.0)
    assert told.own.margins == (margins(False, 4),)
    assert told.others.margins == (margins(True, 10),)
    theirs = tuple(replace(margins(waits, 40), logs=(0.9,) * 3) for waits in (False, True))
    assert evidence.lacking(known, Learned(margins=theirs), 0.0).margins == theirs


def test_what_began_anew_is_ones_own_from_there_on():
    evidence = Evidence()
    evidence.took_up(knowing(lengths(40)), 0.0)
    evidence.told(knowing(lengths(50)), 0.0)
    assert evidence.told(knowing(lengths(2)), 0.0).own == knowing(lengths(2))


def test_evidence_fades_while_none_is_added_and_never_altogether():
    evidence = Evidence()
    evidence.told(knowing(lengths(40)), 0.0)
    assert evidence.told(knowing(lengths(40)), HALF_LIFE_S).own == knowing(lengths(20))
    assert evidence.told(knowing(lengths(40)), 99 * HALF_LIFE_S).own == knowing(lengths(1))
    assert evidence.told(knowing(lengths(41)), 99 * HALF_LIFE_S).own == knowing(lengths(41))


def test_each_thing_is_told_by_its_name():
    evidence = Evidence()
    one = BytesLearned("m", 1.0, 0.5, 3)
    learned = Learned(lengths=(lengths(3, None),), answer_bytes=(one,), prompt_bytes=(one,))
    assert evidence.told(learned, 0.0).own == learned
    evidence.took_up(Learned(answer_bytes=(one,)), 0.0)
    told = evidence.told(learned, 0.0)
    assert (told.own.answer_bytes, told.own.prompt_bytes) == ((), (one,))
    assert told.others == Learned(answer_bytes=(one,))


@pytest.mark.parametrize(("own", "is_taken"), [(0, True), (12, True), (13, False), (50, False)])
def test_only_of_what_little_was_learned_here_others_are_believed(own, is_taken):
    evidence = Evidence()
    known = knowing(lengths(own)) if own else Learned()
    evidence.told(known, 0.0)
    theirs = lengths(50, state=(2.0,) * 5)
    assert (own / 50 < LITTLE) is is_taken
    assert evidence.lacking(known, knowing(theirs), 0.0) == (
        knowing(theirs) if is_taken else Learned()
    )
    assert bool(evidence.told(knowing(theirs), 0.0).own.lengths) is not is_taken or own >= 50


def test_what_stands_already_is_not_taken_up_again():
    """Its own, as it told it with lessons that have faded."""
    evidence = Evidence()
    known = knowing(lengths(5), latency=(latency(2, 0),))
    told = evidence.told(known, 0.0)
    assert evidence.lacking(known, merge([Witness(told.own, 0.0)]), 0.0) == Learned()
    assert evidence.told(known, 0.0).own == told.own


def test_of_an_endpoint_only_the_part_that_is_lacking_is_taken_up():
    evidence = Evidence()
    known = Learned((latency(20, 1),))
    evidence.told(known, 0.0)
    theirs = replace(latency(20, 20, (2.0,) * 5), tpot=(0.5, 1.0))
    (taken,) = evidence.lacking(known, Learned((theirs,)), 0.0).latency
    assert (taken.wait_lessons, taken.tpot_lessons) == (0, 20)


ACTS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["learn", "learn", "meet"]), st.integers(1, 30)),
    max_size=40,
)


@given(ACTS)
def test_however_often_they_meet_no_lesson_is_told_twice(acts):
    """Three gateways learn of one thing and take up what the others told, in any order."""
    ledgers = [Evidence() for _ in range(3)]
    known = [Learned()] * 3
    own = [Learned()] * 3
    taught = 0
    for who, act, count in acts:
        if act == "learn":
            (before,) = known[who].lengths or (lengths(0, state=(0.0,) * 5),)
            taught += count
            state = (float(taught),) * 5
            known[who] = knowing(lengths(before.lessons + count, state=state))
            continue
        own[who] = ledgers[who].told(known[who], 0.0).own
        merged = merge([Witness(one, 0.0) for one in own])
        taken = ledgers[who].lacking(known[who], merged, 0.0)
        if taken.lengths:
            known[who] = knowing(*taken.lengths)
            own[who] = ledgers[who].told(known[who], 0.0).own
        told = sum(one.lessons for learned in own for one in learned.lengths)
        assert told <= taught

"""What many learned, made one: whoever tells it, in whatever order, and whoever lies."""

import math
from collections import defaultdict
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.core.latency import (
    FACTOR,
    LEVEL,
    RATIO_MEAN,
    WAIT_RANGES,
    is_wait,
    ratio_prior,
    wait_prior,
)
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
from router.core.merging import HALF_LIFE_S, Witness, merge
from tests.examples import examples

ENDPOINTS = st.sampled_from("abc")
KINDS = st.sampled_from(["k1", "k2"])
MODELS = st.sampled_from(["m1", "m2"])
LESSONS = st.integers(0, 500)
AGES = st.floats(0.0, 5 * HALF_LIFE_S)


def bounded(low, high):
    return st.floats(low, high)


def wait_state(level=0.0, factor=1.0):
    state = wait_prior()
    state[LEVEL], state[FACTOR] = level, factor
    return tuple(state.tolist())


def pace_state(mean=0.0):
    state = ratio_prior()
    state[RATIO_MEAN] = mean
    return tuple(state.tolist())


WAITS = st.builds(wait_state, bounded(-3.0, 3.0), bounded(0.1, 10.0))
PACES = st.builds(pace_state, bounded(-3.0, 3.0))
LENGTHS = st.tuples(
    bounded(1.0, 1e4), bounded(0.0, 9.0), bounded(0.0, 4.0), bounded(0.0, 9.0), bounded(1.0, 1e4)
)


def unique(strategy, *keys):
    def thing(one):
        return tuple(getattr(one, key) for key in keys)

    return st.lists(strategy, max_size=5, unique_by=thing).map(tuple)


def bytes_learned():
    one = st.builds(BytesLearned, MODELS, bounded(0.0, 5.0), bounded(0.1, 3.0), LESSONS)
    return unique(one, "model")


LEARNED = st.builds(
    Learned,
    unique(
        st.builds(LatencyLearned, ENDPOINTS, KINDS, st.just(1.6), WAITS, LESSONS, PACES, LESSONS),
        "endpoint", "kind",
    ),
    unique(
        st.builds(
            StartLearned,
            KINDS,
            st.tuples(*4 * [bounded(-1.0, 1.0)]),
            st.tuples(*2 * [bounded(-1.0, 1.0)]),
        ),
        "kind",
    ),
    unique(
        st.builds(LengthsLearned, MODELS, st.sampled_from([None, "", "acme"]), LENGTHS, LESSONS),
        "model", "tenant",
    ),
    bytes_learned(),
    bytes_learned(),
    unique(
        st.builds(
            SkillLearned,
            st.just("average/lifecycle"),
            st.sampled_from(["DE", "GB"]),
            st.tuples(*7 * [st.tuples(LESSONS, *3 * [bounded(0.0, 500.0)])]),
        ),
        "grid_zone",
    ),
    unique(
        st.builds(
            MarginsLearned, ENDPOINTS, KINDS, st.booleans(), st.just(1.6),
            st.tuples(*3 * [bounded(-0.5, 2.0)]), LESSONS,
        ),
        "endpoint", "kind", "waits",
    ),
)  # fmt: skip
# Hypothesis warns of examples as large as these by chance.
LARGE = settings(suppress_health_check=[HealthCheck.data_too_large])
WITNESSES = st.lists(st.builds(Witness, LEARNED, AGES, st.booleans()), max_size=5)


@settings(LARGE, max_examples=examples(8))
@given(WITNESSES, st.randoms(use_true_random=False))
def test_the_order_of_who_tells_does_not_matter(witnesses, shuffling):
    shuffled = list(witnesses)
    shuffling.shuffle(shuffled)
    assert merge(shuffled) == merge(witnesses)


@settings(LARGE, max_examples=examples(12))
@given(LEARNED, AGES)
def test_one_alone_is_believed_and_twice_as_much_is_no_more(learned, age_s):
    one = merge([Witness(learned, age_s)])
    assert merge([Witness(learned, age_s)] * 2) == one
    assert merge([Witness(one, 0.0)]) == one
    lessons = {
        (entry.endpoint, entry.kind): entry
        for entry in learned.latency
        if entry.wait_lessons or entry.tpot_lessons
    }
    assert {(entry.endpoint, entry.kind) for entry in one.latency} == lessons.keys()
    for entry in one.latency:
        own = lessons[entry.endpoint, entry.kind]
        if own.wait_lessons and own.tpot_lessons:
            assert entry == own
    assert set(one.lengths) == set(learned.lengths)
    assert set(one.answer_bytes) == set(learned.answer_bytes)
    assert set(one.prompt_bytes) == set(learned.prompt_bytes)
    assert set(one.skills) == set(learned.skills)
    assert set(one.starts) == set(learned.starts)


def told(witnesses, part, *keys):
    found = defaultdict(list)
    for witness in witnesses:
        for one in getattr(witness.learned, part):
            found[tuple(getattr(one, key) for key in keys)].append((one, witness))
    return found


@settings(LARGE, max_examples=examples(8))
@given(WITNESSES)
def test_whatever_is_taken_was_learned_by_somebody(witnesses):
    merged = merge(witnesses)
    entries = told(witnesses, "latency", "endpoint", "kind")
    for one in merged.latency:
        known = entries[one.endpoint, one.kind]
        if one.wait_lessons:
            assert one.wait in [own.wait for own, by in known if by.here]
        else:
            assert one.wait == tuple(wait_prior().tolist())
        assert one.tpot in [own.tpot for own, _ in known]
        assert is_wait(one.wait)
    for part, keys in (
        ("lengths", ("model", "tenant")),
        ("answer_bytes", ("model",)),
        ("prompt_bytes", ("model",)),
        ("skills", ("signal", "grid_zone")),
    ):
        entries = told(witnesses, part, *keys)
        chosen = {tuple(getattr(one, key) for key in keys): one for one in getattr(merged, part)}
        assert chosen.keys() == entries.keys()
        assert all(one in [own for own, _ in entries[thing]] for thing, one in chosen.items())
    entries = told(witnesses, "starts", "kind")
    for start in merged.starts:
        for at, figure in enumerate(start.wait):
            assert figure in [own.wait[at] for own, _ in entries[(start.kind,)]]


def slow_middle(voices):
    """The obvious way: every voice as often as its weight says."""
    total = math.fsum(weight for _, weight in voices)
    return min(
        figure
        for figure, _ in voices
        if math.fsum(weight for other, weight in voices if other <= figure) >= total / 2.0
    )


@given(st.lists(st.tuples(bounded(-3.0, 3.0), st.integers(1, 60), AGES), min_size=1, max_size=9))
def test_it_is_the_middle_by_lessons_and_age(voices):
    witnesses = [
        Witness(
            Learned(latency=(LatencyLearned("a", "k", 1.6, wait_state(), 0, pace_state(m), n),)),
            age_s,
        )
        for m, n, age_s in voices
    ]
    (one,) = merge(witnesses).latency
    weights = [(m, min(n / 20.0, 1.0) * 2.0 ** (-age_s / HALF_LIFE_S)) for m, n, age_s in voices]
    near = slow_middle([(m, weight) for m, weight in weights])
    ordered = sorted({m for m, _ in weights})
    # Halves that are equal but for rounding are told apart by nobody.
    assert abs(ordered.index(one.tpot[RATIO_MEAN]) - ordered.index(near)) <= 1


def latency(level, lessons=100, kind="k", endpoint="a"):
    return LatencyLearned(
        endpoint, kind, 1.6, wait_state(level), lessons, pace_state(level), lessons
    )


def witness(*entries, age_s=0.0, here=True, **parts):
    return Witness(Learned(latency=entries, **parts), age_s, here)


def test_one_that_lies_or_is_odd_moves_nobody():
    honest = [witness(latency(level)) for level in (0.40, 0.41, 0.42)]
    for lie in (-3.9, 3.9):
        (one,) = merge([*honest, witness(latency(lie, 2**53))]).latency
        assert 0.40 <= one.wait[LEVEL] <= 0.42
        assert 0.40 <= one.tpot[RATIO_MEAN] <= 0.42


def test_much_evidence_outweighs_little_and_what_is_fresh_what_is_old():
    taught, hardly = witness(latency(0.7)), witness(latency(0.1, 3))
    assert merge([hardly, taught]).latency[0].wait[LEVEL] == 0.7
    old = [witness(latency(0.1), age_s=3 * HALF_LIFE_S) for _ in range(5)]
    assert merge([*old, taught]).latency[0].wait[LEVEL] == 0.7
    # After a weekend all is old, and known all the same.
    assert merge([witness(latency(0.7), age_s=1e9)]).latency[0].wait[LEVEL] == 0.7


def test_who_learned_nothing_has_no_say():
    nothing = witness(latency(0.0, 0), starts=(StartLearned("k", (0.0,) * 4, (0.0,) * 2),))
    taught = witness(latency(0.7), starts=(StartLearned("k", (0.7,) * 4, (0.7,) * 2),))
    merged = merge([nothing] * 10 + [taught])
    assert merged.latency == taught.learned.latency
    assert merged.starts == taught.learned.starts


def test_the_path_is_known_only_where_it_begins():
    far = witness(latency(0.7), here=False)
    (one,) = merge([far]).latency
    assert (one.wait, one.wait_lessons) == (tuple(wait_prior().tolist()), 0)
    assert (one.tpot[RATIO_MEAN], one.tpot_lessons) == (0.7, 100)
    near = witness(latency(0.2))
    (one,) = merge([far, far, far, near]).latency
    assert one.wait[LEVEL] == 0.2
    assert one.tpot[RATIO_MEAN] == 0.7
    only_wait = replace(latency(0.7), tpot_lessons=0)
    assert merge([witness(only_wait, here=False)]).latency == ()


def test_margins_are_the_middle_of_those_told_in_the_same_place():
    def margins(log, lessons=50, waits=False, z=1.6):
        return MarginsLearned("a", "k", waits, z, (0.0, 0.0, log), lessons)

    near = [witness(margins=(margins(log),)) for log in (0.1, 0.2, 2.0)]
    far = [witness(margins=(margins(0.0),), here=False)] * 3
    assert merge([*near, *far]).margins == (margins(0.2),)
    apart = witness(margins=(margins(0.5, waits=True), margins(0.7, z=0.6)))
    assert merge([*near, apart]).margins == (
        margins(0.7, z=0.6), margins(0.2), margins(0.5, waits=True),
    )  # fmt: skip


def test_endpoints_of_another_profile_are_others():
    merged = merge([witness(latency(0.7, kind="old")), witness(latency(0.1, kind="new"))])
    assert [(one.kind, one.wait[LEVEL]) for one in merged.latency] == [("new", 0.1), ("old", 0.7)]


def test_tenants_with_most_lessons_come_last_for_there_is_room_for_some():
    lengths = [LengthsLearned("m", name, (9.0, 2.0, 0.1, 3.0, 9.0), n) for name, n in ZIPPED]
    merged = merge([Witness(Learned(lengths=tuple(lengths)), 0.0)])
    assert [one.lessons for one in merged.lengths] == [1, 3, 7, 9]
    assert merged.lengths[0].lengths[LOG_MEAN] == 2.0


ZIPPED = (("a", 9), ("b", 1), (None, 7), ("c", 3))


def test_nothing_is_made_of_nothing():
    assert merge([]) == Learned()
    assert merge([Witness(Learned(), 0.0)]) == Learned()


def test_states_of_tests_can_be():
    assert is_wait(wait_state(3.0, 10.0))
    assert len(wait_state()) == len(WAIT_RANGES)

"""The same decision again: on the same code no bit of it is otherwise."""

import random

import pytest

from router.core.answered import answer_of, differences
from router.core.pipeline import decide
from router.core.seen import Answered, Draws, Rulings, decide_again, explain_again, saw
from router.errors import RefusedError
from tests.core.drifting import Drift


def decided(drift, arguments, draws=None, rulings=None):
    rng = draws or drift.rng
    judge = rulings or arguments["judge"]
    try:
        found = decide(
            snapshot=drift.snapshot, board=drift.board, rng=rng, **{**arguments, "judge": judge}
        )
    except RefusedError as error:
        return Answered(None, error.reason), None
    return Answered(found.decision, ""), found.need


def seen_of(drift, arguments, draws, rulings):
    kept = {name: value for name, value in arguments.items() if name not in ("now", "judge")}
    return saw(
        snapshot=drift.snapshot, board=drift.board, at=arguments["now"],
        draws=() if draws is None else draws.given,
        rulings=() if rulings is None else rulings.given, **kept,
    )  # fmt: skip


def taken(seed, count, budgets=False, asks=None):
    """(seen, snapshot, answered) of so many decisions, one after the other. ``asks``: so many
    different requests in turn, and the board moves on every few of them."""
    drift = Drift(seed, budgets)
    asked = [drift.arguments() for _ in range(asks or 0)]
    for number in range(count):
        if number % 400 == 399:
            drift.refresh()
        arguments = asked[number % asks] if asks else drift.arguments()
        arguments = {**arguments, "now": drift.now, "monotonic": drift.now - 1.6e9 + 0.1}
        draws, rulings = Draws(drift.rng), Rulings(drift._judge) if budgets else None
        answered, need = decided(drift, arguments, draws, rulings)
        # Draws of what is refused are not kept: they have no bearing on it.
        given = None if answered.decision is None else draws
        yield seen_of(drift, arguments, given, rulings), drift.snapshot, answered
        if need is not None:
            need.teach(drift.board)
        if not asks or number % 8 == 0:
            drift.happen(answered.decision, arguments)


def test_of_a_hundred_thousand_decisions_taken_again_no_bit_is_otherwise():
    """Fleets, policies, requests and boards at random; carbon budgets in every third."""
    count, otherwise, places = 0, [], set()
    refused, relaxed, cached, flags = 0, 0, 0, set()
    for seed in range(50):
        for seen, snapshot, answered in taken(seed, 2000, seed % 3 == 0, asks=150):
            then, again = answer_of(answered), answer_of(decide_again(seen, snapshot))
            if then != again and differences(then, again):
                otherwise.append((seed, count, differences(then, again)))
            count += 1
            places.add((seed, then.endpoint))
            refused += then.refusal != ""
            relaxed += then.relaxed != ()
            cached += seen.cached is not None
            flags.update(then.flags)
    assert otherwise == []
    assert count == 100_000
    assert min(refused, relaxed, cached) > 5000
    assert len(places) > 300
    assert {"carbon_unknown", "carbon_stale", "origin_unknown", "greenest_only"} <= flags


def test_what_a_decision_saw_is_a_copy():
    drift = Drift(1)
    arguments = drift.arguments()
    draws = Draws(random.Random(3))
    answered, _ = decided(drift, arguments, draws)
    seen = seen_of(drift, arguments, draws, None)
    before = seen.live.copy()
    for seat in drift.board.seats.values():
        seat.health.refuse(drift.now)
        seat.publish_load()
    assert (seen.live == before).all()
    assert differences(answer_of(answered), answer_of(decide_again(seen, drift.snapshot))) == ()


def test_by_another_policy_it_may_go_elsewhere_and_draws_do_not_run_out():
    moved = 0
    for seed in range(4):
        drift = Drift(seed)
        for seen, snapshot, answered in taken(seed, 200):
            other = drift.a_policy()
            drift.snapshot = snapshot
            again = decide_again(seen, drift.refresh(other))
            twice = decide_again(seen, drift.snapshot)
            assert differences(answer_of(again), answer_of(twice)) == ()
            moved += answer_of(again).endpoint != answer_of(answered).endpoint
    assert moved > 50


def test_every_term_is_told_and_the_one_chosen_is_the_same():
    told = 0
    for seen, snapshot, answered in taken(5, 300):
        explained = explain_again(seen, snapshot)
        again = Answered(explained.decision, explained.refusal_reason)
        assert differences(answer_of(answered), answer_of(again)) == ()
        assert len(explained.candidates) == seen.live.shape[1]
        if seen.tried:
            told += 1
            out = {one.excluded for one in explained.candidates if one.endpoint in seen.tried}
            assert out <= {"unhealthy"}
    assert told


def test_columns_of_other_candidates_are_told_from_these():
    seen, _, _ = next(taken(1, 1))
    other = Drift(2).snapshot
    assert len(other.layout.candidates["llama", ""].endpoints) != seen.live.shape[1]
    with pytest.raises(ValueError, match="candidates"):
        decide_again(seen, other)

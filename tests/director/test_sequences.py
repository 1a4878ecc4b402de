from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from router.core.pins import Pins
from router.director import sequences as module
from router.director.sequences import Sequences
from tests.factories import request


def asked(name="s", **changes):
    return request(sequence_id=name, **changes)


def first(name="s", **changes):
    return asked(name, sequence_start=True, **changes)


def begun(endpoint="a", name="s"):
    sequences = Sequences()
    sequences.place(first(name), endpoint)
    sequences.answered(first(name), endpoint)
    return sequences


def test_a_sequence_that_nobody_knows_goes_anywhere():
    sequences = Sequences()
    assert (sequences.endpoint(asked()), sequences.begun(asked())) == ("", False)


def test_a_request_of_no_sequence_leaves_no_trace():
    sequences = Sequences()
    sequences.place(request(), "a")
    sequences.answered(request(), "a")
    assert (sequences.endpoint(request()), sequences.begun(request())) == ("", False)
    assert not sequences._placed
    assert not sequences._pins._endpoints


def test_a_placed_sequence_has_not_begun():
    sequences = Sequences()
    sequences.place(first(), "a")
    assert (sequences.endpoint(asked()), sequences.begun(asked())) == ("a", False)


def test_an_answer_begins_it():
    sequences = begun("a")
    assert (sequences.endpoint(asked()), sequences.begun(asked())) == ("a", True)


def test_the_next_request_of_a_begun_one_does_not_unbegin_it():
    sequences = begun("a")
    sequences.place(asked(), "a")
    assert sequences.begun(asked())


def test_a_request_that_starts_it_anew_goes_anywhere():
    sequences = begun("a")
    assert (sequences.endpoint(first()), sequences.begun(first())) == ("", False)
    sequences.place(first(), "a")
    assert not sequences.begun(asked())


def test_the_first_request_may_move():
    sequences = Sequences()
    sequences.place(first(), "a")
    sequences.forget(first())
    sequences.place(first(), "b")
    sequences.answered(first(), "b")
    assert (sequences.endpoint(asked()), sequences.begun(asked())) == ("b", True)


def test_a_move_of_a_begun_one_loses_its_state():
    sequences = begun("a")
    sequences.place(asked(), "b")
    assert (sequences.endpoint(asked()), sequences.begun(asked())) == ("b", False)


def test_a_late_answer_does_not_move_a_sequence_that_began_anew():
    sequences = begun("a")
    sequences.place(first(), "b")
    sequences.answered(asked(), "a")
    assert (sequences.endpoint(asked()), sequences.begun(asked())) == ("b", False)


def test_a_late_last_answer_does_not_end_a_sequence_that_began_anew():
    sequences = begun("a")
    sequences.place(first(), "b")
    sequences.answered(asked(sequence_end=True), "a")
    assert sequences.endpoint(asked()) == "b"


def test_an_answer_to_a_sequence_that_was_forgotten_meanwhile_tells_where_its_state_is():
    sequences = Sequences()
    sequences.answered(asked(), "a")
    assert (sequences.endpoint(asked()), sequences.begun(asked())) == ("a", True)


def test_its_last_answer_ends_it():
    sequences = begun("a")
    sequences.answered(asked(sequence_end=True), "a")
    assert sequences.endpoint(asked()) == ""
    sequences.answered(asked(sequence_end=True), "a")
    assert not sequences._placed
    assert not sequences._pins._endpoints


def test_a_last_request_that_is_not_answered_ends_nothing():
    sequences = begun("a")
    sequences.place(asked(sequence_end=True), "a")
    assert sequences.begun(asked())


def test_forgetting_is_safe_twice():
    sequences = begun("a")
    sequences.forget(asked())
    sequences.forget(asked())
    assert sequences.endpoint(asked()) == ""


def test_the_same_id_at_another_model_is_another_sequence():
    sequences = begun("a")
    assert sequences.endpoint(asked(model="image")) == ""
    sequences.forget(asked(model="image"))
    assert sequences.begun(asked())


def test_the_same_id_of_another_owner_is_another_sequence():
    sequences = begun("a")
    theirs = {"sequence_owner": "acme"}
    assert sequences.endpoint(asked(**theirs)) == ""
    sequences.place(first(**theirs), "b")
    sequences.answered(first(**theirs), "b")
    assert (sequences.endpoint(asked()), sequences.endpoint(asked(**theirs))) == ("a", "b")
    sequences.forget(asked(**theirs))
    assert sequences.begun(asked())


def test_no_text_of_an_id_makes_it_one_of_another_owner():
    sequences = Sequences()
    sequences.place(first("1", sequence_owner="acme"), "a")
    for name in ("acme\n1", "acme1", "\nacme\n1"):
        assert sequences.endpoint(asked(name)) == ""


def test_what_is_held_for_an_owner_is_found_under_each_model():
    sequences = Sequences()
    sequences.hold(("llama", ""), "acme", "s", "a")
    for model in ("llama", ""):
        assert sequences.endpoint(asked(model=model, sequence_owner="acme")) == "a"
        assert sequences.endpoint(asked(model=model)) == ""


def test_of_too_many_those_longest_unused_are_forgotten():
    sequences = Sequences(Pins(most=3))
    for name in "abc":
        sequences.place(first(name), "x")
    sequences.answered(first("a"), "x")
    sequences.place(first("d"), "x")
    assert [sequences.endpoint(asked(name)) for name in "abcd"] == ["x", "", "x", "x"]


def test_what_was_never_answered_is_bounded_too(monkeypatch):
    monkeypatch.setattr(module, "_MAX_PLACED", 3)
    sequences = Sequences()
    for name in "abcde":
        sequences.place(first(name), "x")
    assert len(sequences._placed) == 3


def test_to_another_worker_a_placed_sequence_looks_begun():
    """It cannot know whether an answer came: it goes where the first request went."""
    pins = Pins()
    Sequences(pins).place(first(), "a")
    other = Sequences(pins)
    assert (other.endpoint(asked()), other.begun(asked())) == ("a", True)


class SequencesMachine(RuleBasedStateMachine):
    """Against two plain dictionaries: where each was last sent, and where each was answered."""

    def __init__(self):
        super().__init__()
        self.sequences = Sequences()
        self.sent = {}
        self.answered_at = {}

    names = st.sampled_from("st")
    endpoints = st.sampled_from("ab")

    @rule(name=names, endpoint=endpoints, start=st.booleans())
    def place(self, name, endpoint, start):
        self.sequences.place(asked(name, sequence_start=start), endpoint)
        if start or self.sent.get(name) != endpoint:
            self.answered_at.pop(name, None)
        self.sent[name] = endpoint

    @rule(name=names, endpoint=endpoints, end=st.booleans())
    def answer(self, name, endpoint, end):
        self.sequences.answered(asked(name, sequence_end=end), endpoint)
        if self.sent.get(name, endpoint) != endpoint:
            return
        self.sent[name] = self.answered_at[name] = endpoint
        if end:
            del self.sent[name], self.answered_at[name]

    @rule(name=names)
    def forget(self, name):
        self.sequences.forget(asked(name))
        self.sent.pop(name, None)
        self.answered_at.pop(name, None)

    @rule(name=names)
    def look(self, name):
        assert self.sequences.endpoint(asked(name)) == self.sent.get(name, "")
        assert self.sequences.begun(asked(name)) is (name in self.answered_at)


SequencesMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
TestSequences = SequencesMachine.TestCase

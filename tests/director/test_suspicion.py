import pytest

from router.core.health import State
from router.core.retry import _MOST_TRIALS, RetryBudget, Trials
from router.director.suspicion import Suspicion
from router.director.verdicts import Verdicts
from router.errors import UpstreamError
from tests.director.support import ANSWER, LADDER, Room, Watch, fails, leaf, three
from tests.factories import NOW, board, request, snapshot

LLAMA = ("llama", "")
BLAMES = ["internal", "denied", "rejected"]


class Case:
    """One caller's requests to endpoints a, b and c; one failure in a row ejects."""

    def __init__(self, failures=1):
        self.board = board(snapshot(three(), None, LADDER), consecutive_failures=failures)
        self.trials = Trials()
        self.budget = RetryBudget(0.2, 100.0)
        self.watch = Watch()

    def suspicion(self, **changes):
        return Suspicion(
            request(tenant="acme", **changes), self.board, self.trials, self.watch, Verdicts(),
            self.budget,
        )  # fmt: skip

    def note(self, suspicion, name, error, departed=NOW - 0.1):
        suspicion.note(self.board.seats[name], LLAMA, departed, error)
        return error

    def out(self):
        states = {name: seat.state for name, seat in self.board.seats.items()}
        return [name for name, state in states.items() if state is State.EJECTED]

    def spend(self):
        while self.trials.allowed("llama", "acme"):
            self.trials.begin("llama", "acme")


@pytest.fixture
def case():
    return Case()


def test_an_answer_elsewhere_proves_the_endpoint_at_fault(case):
    suspicion = case.suspicion()
    suspicion.tries(case.note(suspicion, "a", leaf("internal")))
    suspicion.answered(NOW, LLAMA)
    assert case.out() == case.watch.ejections == ["a"]
    assert not case.trials


def test_every_endpoint_that_failed_before_the_answer_is_struck(case):
    suspicion = case.suspicion()
    for name in ("a", "b"):
        suspicion.tries(case.note(suspicion, name, leaf("fault")))
    suspicion.answered(NOW, LLAMA)
    assert case.out() == ["a", "b"]


def test_an_answer_strikes_once(case):
    case = Case(failures=2)
    suspicion = case.suspicion()
    case.note(suspicion, "a", leaf("internal"))
    for _ in range(5):
        suspicion.answered(NOW, LLAMA)
    assert case.out() == []


def test_an_answer_without_failures_strikes_nobody(case):
    case.suspicion().answered(NOW, LLAMA)
    assert case.out() == []


@pytest.mark.parametrize("first", BLAMES)
@pytest.mark.parametrize("second", BLAMES)
def test_a_failure_elsewhere_too_is_the_requests_own(case, first, second):
    suspicion = case.suspicion()
    suspicion.tries(case.note(suspicion, "a", leaf(first)))
    last = case.note(suspicion, "b", leaf(second))
    assert suspicion.given_up(last, NOW, bound=False) is last
    assert case.out() == []
    assert case.trials._left["llama", "acme"] == _MOST_TRIALS - 1.0


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("name", ["fault", "lost", "timeout"])
def test_a_failure_that_blames_no_request_counts_unproven_where_nobody_else_was_asked(
    case, name, bound
):
    suspicion = case.suspicion()
    error = case.note(suspicion, "a", leaf(name))
    assert suspicion.given_up(error, NOW, bound) is error
    assert case.out() == ["a"]


@pytest.mark.parametrize("blame", BLAMES)
def test_a_blaming_failure_counts_unproven_where_nobody_else_could_be_asked(case, blame):
    """Else one that fails whatever it holds the sequence of would stay for ever."""
    suspicion = case.suspicion()
    error = case.note(suspicion, "a", leaf(blame))
    assert suspicion.given_up(error, NOW, bound=True) is error
    assert case.out() == ["a"]
    assert not case.trials


@pytest.mark.parametrize("blame", BLAMES)
def test_a_blaming_failure_counts_for_nobody_where_somebody_else_could_have_been_asked(case, blame):
    suspicion = case.suspicion()
    error = case.note(suspicion, "a", leaf(blame))
    assert suspicion.given_up(error, NOW, bound=False) is error
    assert case.out() == []
    assert not case.trials


def test_a_caller_known_for_bad_requests_strikes_nobody_with_them(case):
    case.spend()
    suspicion = case.suspicion()
    error = case.note(suspicion, "a", leaf("internal"))
    assert suspicion.given_up(error, NOW, bound=False) is error
    assert case.out() == []


def test_each_trial_of_a_blaming_failure_is_paid_for(case):
    suspicion = case.suspicion()
    for made, name in enumerate(BLAMES, 1):
        assert suspicion.may_try(leaf(name))
        suspicion.tries(leaf(name))
        assert case.trials._left["llama", "acme"] == _MOST_TRIALS - made


def test_an_answer_gives_every_trial_back(case):
    suspicion = case.suspicion()
    for name in ("a", "b"):
        suspicion.tries(case.note(suspicion, name, leaf("internal")))
    suspicion.answered(NOW, LLAMA)
    assert not case.trials


def test_a_blaming_failure_is_not_tried_elsewhere_without_a_trial_left(case):
    case.spend()
    suspicion = case.suspicion()
    assert not any(suspicion.may_try(leaf(name)) for name in BLAMES)


def test_what_blames_no_request_is_tried_without_trials(case):
    case.spend()
    suspicion = case.suspicion()
    left = dict(case.trials._left)
    for name in ("fault", "lost", "busy", "refused", "unseen", "timeout"):
        assert suspicion.may_try(leaf(name))
        suspicion.tries(leaf(name))
    assert case.trials._left == left


def test_the_failure_of_a_request_from_before_an_ejection_says_nothing(case):
    outlier = case.board.seats["a"].outliers[LLAMA]
    outlier.eject(NOW - 100.0)
    case.board.tick(NOW)
    suspicion = case.suspicion()
    suspicion.tries(case.note(suspicion, "a", leaf("internal"), departed=NOW - 1.0))
    suspicion.answered(NOW + 1.0, LLAMA)
    assert outlier.state is State.PROBING
    assert case.watch.ejections == []


def test_the_caller_is_told_what_a_server_said_of_it_rather_than_that_another_was_busy(case):
    suspicion = case.suspicion()
    first = case.note(suspicion, "a", leaf("internal"))
    suspicion.tries(first)
    last = leaf("busy")
    first.attempts, last.attempts = 1, 2
    assert suspicion.given_up(last, NOW, bound=False) is first
    assert first.attempts == 2


def test_the_caller_is_told_the_last_where_nothing_is_in_doubt(case):
    last = leaf("refused")
    assert case.suspicion().given_up(last, NOW, bound=False) is last
    assert case.out() == []


@pytest.mark.parametrize("name", ["internal", "fault", "lost", "denied"])
def test_an_answer_cut_short_counts_unproven(case, name):
    suspicion = case.suspicion()
    suspicion.cut_short(case.note(suspicion, "a", leaf(name)), NOW)
    assert case.out() == ["a"]


def test_an_answer_cut_short_by_the_request_itself_counts_for_nobody(case):
    suspicion = case.suspicion()
    suspicion.cut_short(case.note(suspicion, "a", leaf("rejected")), NOW)
    assert case.out() == []


def test_two_in_a_row_of_one_caller_are_needed_where_two_are(case):
    case = Case(failures=2)
    for expected in ([], ["a"]):
        suspicion = case.suspicion()
        suspicion.tries(case.note(suspicion, "a", leaf("internal")))
        suspicion.answered(NOW, LLAMA)
        assert case.out() == expected


def test_the_last_in_service_is_never_out(case):
    for name in "abc":
        suspicion = case.suspicion()
        case.note(suspicion, name, leaf("internal"))
        suspicion.answered(NOW, LLAMA)
    assert case.out() == ["a", "b"]
    assert case.watch.ejections == ["a", "b"]


@pytest.mark.parametrize("kind", ["internal", "denied", "fault"])
@pytest.mark.parametrize("callers", [1, 20, 200])
async def test_one_that_fails_every_caller_is_out_before_many_requests_are_lost(callers, kind):
    """Each caller meets it once in a while: the retry budget would be empty before one has a
    row."""
    script = {"a": fails(kind), "b": ANSWER, "c": ANSWER}
    room, lost = Room(script, health={"failure_percentage": 10.0}), 0
    for number in range(500):
        room.clock.advance(0.01)
        try:
            await room.infer(tenant=f"caller {number % callers}")
        except UpstreamError:
            lost += 1
    assert lost == 0
    assert room.watch.ejections[:1] == ["a"]


def test_what_one_on_probation_fails_is_tried_elsewhere_without_a_trial_left(case):
    """Else bad requests of the caller would keep a broken endpoint on probation for ever."""
    case.spend()
    outlier = case.board.seats["a"].outliers[LLAMA]
    outlier.eject(NOW - 1.0)
    outlier.recall(NOW)
    suspicion = case.suspicion()
    error = case.note(suspicion, "a", leaf("internal"), departed=NOW + 0.1)
    assert suspicion.may_try(error)
    suspicion.tries(error)
    suspicion.answered(NOW + 0.2, LLAMA)
    assert case.out() == ["a"]

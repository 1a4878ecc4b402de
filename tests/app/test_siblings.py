"""What a worker says of the others."""

import pytest

from router.app.siblings import Siblings
from router.peers.rows import PARENT, Phase, ProcessRows, ProcessRowsSize, Reload


class Gateway:
    """Three workers; the first one looks."""

    def __init__(self):
        size = ProcessRowsSize(3, 1)
        self.rows = ProcessRows(bytearray(size.nbytes), size)
        self.siblings = Siblings(self.rows, 1)
        self.now = 0.0
        for row in range(4):
            self.rows.occupy(row, 1000 + row)
            self.rows.enter(row, Phase.SERVING)

    def pass_s(self, seconds, *still):
        """Time in which every process but ``still`` turns."""
        for _ in range(2 * seconds):
            for row in {PARENT, 1, 2, 3} - set(still):
                self.rows.beat(row)
            self.now += 0.5
            self.siblings.look(self.now)

    def reasons(self):
        return [reason.reason for reason in self.siblings.reasons()]


@pytest.fixture
def gateway():
    made = Gateway()
    made.pass_s(1)
    return made


def test_where_all_turn_there_is_nothing_to_say(gateway):
    gateway.pass_s(60, 1)  # of itself it says nothing
    assert gateway.siblings.liveness() == (True, ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda one: one.rows.clear(3), "worker_down"),
        (lambda one: one.rows.occupy(3, 4711), "worker_starting"),
        (lambda one: one.pass_s(4, 3), "worker_frozen"),
        (lambda one: one.rows.reloaded(3, Reload.REFUSED), "reload_refused"),
    ],
)
def test_what_is_wrong_with_another_one_is_told_and_is_no_reason_to_restart(
    gateway, change, reason
):
    change(gateway)
    (told,) = gateway.siblings.reasons()
    assert (told.reason, told.blocking) == (reason, False)
    assert "worker 3 of 3" in told.detail
    assert gateway.siblings.liveness() == (True, (told,))


def test_a_slow_one_is_not_worth_a_word(gateway):
    gateway.pass_s(2, 2, 3)
    assert gateway.reasons() == []


def test_without_a_parent_that_looks_after_the_workers_the_gateway_is_not_alive(gateway):
    gateway.pass_s(15, PARENT)
    assert gateway.siblings.liveness().alive
    gateway.pass_s(2, PARENT)
    alive, (note,) = gateway.siblings.liveness()
    assert (alive, note.reason) == (False, "parent_frozen")
    gateway.pass_s(1)
    assert gateway.siblings.liveness().alive

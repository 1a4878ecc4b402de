"""Who stands still is told from who is looked at seldom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.peers.beats import BeatWatch


class Beats:
    def __init__(self):
        self.counts = {1: 0, 2: 0}
        self.watch = BeatWatch(self.counts.get, (1, 2))


@pytest.fixture
def beats():
    return Beats()


def test_a_row_that_does_not_beat_stands_still_and_the_other_does_not(beats):
    for second in range(6):
        beats.counts[2] += 1
        beats.watch.look(float(second))
    assert (beats.watch.still_s(1), beats.watch.still_s(2)) == (5.0, 0.0)
    beats.counts[1] += 1
    beats.watch.look(6.0)
    assert beats.watch.still_s(1) == 0.0


def test_who_was_stopped_itself_blames_nobody(beats):
    """As when a laptop wakes or a container is unpaused: nobody had the time to beat."""
    beats.watch.look(0.0)
    beats.watch.look(3600.0)
    assert beats.watch.still_s(1) == 1.0


def test_a_successor_begins_anew(beats):
    for second in range(6):
        beats.watch.look(float(second))
    beats.watch.begin(1)
    assert (beats.watch.still_s(1), beats.watch.still_s(2)) == (0.0, 5.0)


@given(looks=st.lists(st.tuples(st.floats(0.0, 100.0), st.booleans()), max_size=50))
def test_nobody_stands_still_for_longer_than_was_looked(looks):
    beats, now = Beats(), 0.0
    beats.watch.look(now)
    for passed_s, beat in looks:
        now += passed_s
        beats.counts[1] += beat
        beats.watch.look(now)
        assert beats.watch.still_s(1) <= beats.watch.still_s(2) <= min(now, len(looks)) + 1e-6
        assert not (beat and beats.watch.still_s(1))

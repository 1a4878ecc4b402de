import numpy as np
import pytest

from router.lab.sim.traffic_shift import TrafficShifts


def counts(*by_origin: list[float]) -> np.ndarray:
    """Requests (origins, one model, regions)."""
    return np.array([[row] for row in by_origin])


def test_shares_are_compared_and_weighed_by_the_traffic_of_the_later_interval() -> None:
    moves = TrafficShifts()
    moves.close(counts([10.0, 0.0], [5.0, 5.0]), 60.0)
    assert moves.found == ()
    # The first origin sends a half elsewhere, the second, three times as many, stays.
    moves.close(counts([5.0, 5.0], [15.0, 15.0]), 120.0)
    assert moves.found == ((60.0, pytest.approx(0.5 * 10.0 / 40.0)),)


def test_an_origin_that_was_silent_has_not_moved() -> None:
    moves = TrafficShifts()
    moves.close(counts([0.0, 0.0]), 0.0)
    moves.close(counts([3.0, 1.0]), 60.0)
    moves.close(counts([0.0, 0.0]), 120.0)
    assert moves.found == ()

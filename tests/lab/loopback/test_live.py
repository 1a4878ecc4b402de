import pytest

from router.app.loading import load
from router.lab.demo import fleet as demo_fleet
from router.lab.loopback.live import _served_ports, opening
from router.lab.loopback.watch import GridReading
from router.lab.replay.timed import Period

NOMINAL = Period(60.0, 10_000.0, 100.0)


def test_it_begins_when_the_carbon_clock_says_so():
    start, period = opening(NOMINAL, GridReading(50.0, 9_700.0, {}, {}), 50.5)
    assert start == pytest.approx(53.0) and period == NOMINAL


def test_a_gateway_that_comes_up_late_begins_late():
    start, period = opening(NOMINAL, GridReading(50.0, 10_400.0, {}, {}), 50.5)
    assert start == pytest.approx(50.7)
    # What its clock will show then.
    assert period.carbon_start == pytest.approx(10_470.0)
    assert (period.seconds, period.speed) == (60.0, 100.0)


def test_every_server_and_the_scrapes_are_waited_for(tmp_path):
    count = demo_fleet.endpoint_count()
    ports = list(range(20000, 20000 + count))
    document = demo_fleet.document(ports, 19001, 19002, 19003, 6.0)
    assert _served_ports(load(demo_fleet.write(tmp_path, document))) == [*ports, 19003]

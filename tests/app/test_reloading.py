"""SIGHUP: what is told of a file that is put in force, and of one that is refused."""

import pytest

from router.app.reloading import Reloader
from router.peers.rows import Reload
from tests.app.support import Place, configured


class Counted:
    """What was told, in order."""

    def __init__(self):
        self.outcomes = []
        self.told = []
        self.refusals = []

    def hear(self, how, refused):
        self.told.append(how)
        self.refusals.append(refused)

    def reloaded(self, outcome, at):
        self.outcomes.append(outcome)


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
async def place(tmp_path):
    return await Place(configured(tmp_path)).open()


def reasons(place):
    return [reason.reason for reason in place.runtime.readiness().reasons]


async def test_a_refused_file_is_told_until_a_good_one_comes(place, counted, tmp_path):
    path = configured(tmp_path)
    reloader = Reloader(place.runtime, path, counted, counted.hear)
    good = path.read_text()
    path.write_text("nonsense: {")
    assert not await reloader.reload()
    assert reasons(place) == ["reload_refused"]
    assert str(path) in place.runtime.readiness().reasons[0].detail
    assert place.runtime.readiness().ready
    path.write_text(good)
    assert await reloader.reload()
    assert reasons(place) == []
    assert counted.outcomes == ["refused", "applied"]
    assert counted.told == [Reload.REFUSED, Reload.APPLIED]
    assert str(path) in counted.refusals[0]
    assert counted.refusals[1] == ""


async def test_a_file_that_is_gone_is_refused(place, counted, tmp_path):
    reloader = Reloader(place.runtime, tmp_path / "gone.yaml", counted, counted.hear)
    assert not await reloader.reload()
    assert counted.outcomes == ["refused"]


async def test_a_defect_is_refused_too_and_does_not_end_the_gateway(place, counted, tmp_path):
    async def broken(path):
        raise ZeroDivisionError

    place.runtime.reload = broken
    reloader = Reloader(place.runtime, configured(tmp_path), counted, counted.hear)
    assert not await reloader.reload()
    assert "ZeroDivisionError" in place.runtime.readiness().reasons[0].detail

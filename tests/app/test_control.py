"""What the control API is told: decisions, explanations and the fleet in force."""

import pytest

from router.app.control import ControlApi
from router.errors import UnknownModelError
from tests.app.support import Place, configured
from tests.factories import request

MODEL = "llama-3.1-8b"


@pytest.fixture
async def place(tmp_path):
    return await Place(configured(tmp_path)).open()


@pytest.fixture
def desk(place):
    return ControlApi(place.director, place.runtime)


async def test_it_decides_and_explains_without_taking_a_place(place, desk):
    asked = request(model=MODEL, origin="west")
    assert desk.decide(asked).endpoint.name == "west-0"
    assert desk.explain(asked).decision.endpoint.name == "west-0"
    assert not any(seat.in_flight or seat.turns for seat in place.runtime.board.seats.values())
    with pytest.raises(UnknownModelError):
        desk.decide(request(model="gpt"))


async def test_it_follows_refresh_and_reload(place, desk, tmp_path):
    first = desk.version()
    await place.runtime.refresh()
    assert desk.version() == first + 1
    assert desk.view().snapshot_version == first + 1
    await place.runtime.reload(configured(tmp_path, {"endpoints/0/name": "new-0"}))
    assert desk.fleet().endpoints[0].name == "new-0"
    assert desk.view().endpoints[0].name == "new-0"
    assert desk.decide(request(model=MODEL, origin="west")).endpoint.name == "new-0"

"""A server that is there and answers with errors is taken out, and comes back."""

import pytest

from tests.e2e import harness as h
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig

pytestmark = [hosts.missing, pytest.mark.timeout(300)]

MODEL = "answering"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = rig.config(health={"base_ejection_s": 2, "max_ejected_fraction": 0.5})
    with rig.AnsweringServer() as first, rig.AnsweringServer() as second:
        made["endpoints"] = [
            {**one, "address": f"127.0.0.1:{server.port}"}
            for one, server in zip(made["endpoints"][2:], (first, second), strict=True)
        ]
        for one in made["endpoints"]:
            one["models"] = [{**one["models"][0], "name": MODEL}]
        made["models"] = {MODEL: made["models"][rig.CHAT]}
        folder = tmp_path_factory.mktemp("envoy-blame")
        gateway = rig.EnvoyGateway(folder, made)
        try:
            gateway.first, gateway.second = first, second
            yield gateway
        finally:
            gateway.stop()


@pytest.mark.parametrize("status", [500, 503])
async def test_whoever_answers_nothing_but_errors_is_out_until_it_is_well(place, status):
    async def is_out():
        before = len(place.first.seen)
        for _ in range(3):
            await place.chat(model=MODEL)
        return len(place.first.seen) == before

    async def is_back():
        before = len(place.first.seen)
        assert (await place.chat(model=MODEL))[0] == 200
        return len(place.first.seen) > before

    await h.until(is_back, "its being there")
    place.first.status = status
    await h.until(is_out, "its being taken out")
    place.first.status = 200
    await h.until(is_back, "its return")

from pathlib import Path

import pytest

from router.app.loading import load
from router.lab.demo.openai import fleet
from router.lab.demo.openai.fleet import PLACES, PORTS, Ports

SECONDS = 60.0


def test_the_configuration_is_valid_and_has_a_region_a_server(tmp_path: Path) -> None:
    ports = Ports.of(range(20_000, 20_000 + PORTS))
    config = load(fleet.write(tmp_path, ports, fleet.period(SECONDS)))
    assert set(config.fleet.regions) == {"california", "texas", "new-york"}
    assert {endpoint.protocol for endpoint in config.fleet.endpoints} == {"openai"}
    assert not any(endpoint.emulated for endpoint in config.fleet.endpoints)
    assert [endpoint.address for endpoint in config.fleet.endpoints] == [
        f"127.0.0.1:{port}" for port in ports.servers
    ]


def test_no_port_is_used_twice() -> None:
    ports = Ports.of(range(PORTS))
    used = [*ports.servers, *ports.llama, ports.listen, ports.admin, ports.http]
    assert sorted(used) == list(range(PORTS))


def test_the_caller_is_nearest_to_the_dirtiest_grid() -> None:
    assert min((fleet.rtt_ms(place.name), place.name) for place in PLACES)[1] == "texas"


def test_questions_are_in_order_the_same_for_a_seed_and_surround_the_kill() -> None:
    asked = fleet.questions(SECONDS, 1)
    assert asked == fleet.questions(SECONDS, 1) != fleet.questions(SECONDS, 2)
    times_s = [one.at_s for one in asked]
    assert times_s == sorted(times_s)
    assert 0.0 <= times_s[0] <= times_s[-1] < SECONDS
    for more_s in fleet.AROUND_KILL_S:
        assert fleet.KILL_AT * SECONDS + more_s in times_s
    assert len(asked) == pytest.approx(fleet.MEAN_RPS * SECONDS, rel=0.5)

from __future__ import annotations

import math
from pathlib import Path

from router.config import ClimatologySpec, ClockSettings, StaticSpec
from router.model import (
    Basis,
    Endpoint,
    Factors,
    LengthPrior,
    Region,
    ServedModel,
    Signal,
    TaskProfile,
    TokenProfile,
)
from tests.config.samples import loaded, problems


def test_the_fleet(tmp_path: Path) -> None:
    fleet = loaded(tmp_path, {"server/origin": "east"}).fleet
    assert fleet.regions["us-west"] == Region(
        "us-west", "US-CAL-CISO", 1.11, "operator", frozenset({"us"})
    )
    west, east = fleet.endpoints
    assert (west.name, west.region, west.address) == ("west-0", "us-west", "127.0.0.1:9001")
    assert {west.protocol, east.protocol} == {"oip"}
    assert (west.metrics_url, west.engine) == ("http://127.0.0.1:8002/metrics", "vllm")
    assert (east.metrics_url, east.engine, east.emulated) == ("", "", True)
    assert isinstance(west.models[0].profile, TokenProfile)
    assert fleet.priors["llama-3.1-8b"] == LengthPrior(180.0, 200.0, 480.0)
    assert fleet.rtt_ms["east"]["us-west"] == 64.0
    assert (fleet.default_origin, fleet.gateway_origin) == ("west", "east")


def test_a_model_without_tokens_gets_a_prior_of_one_token(tmp_path: Path) -> None:
    fleet = loaded(tmp_path).fleet
    served = fleet.endpoints[1].models[1]
    assert isinstance(served.profile, TaskProfile)
    assert math.isinf(served.context_tokens)
    assert fleet.priors["classifier"] == LengthPrior(1.0, 1.0, 1.0)


def test_a_replica_is_priced_at_a_load_that_its_cap_lets_it_reach(tmp_path: Path) -> None:
    capped, free = loaded(tmp_path, {"endpoints/0/max_in_flight": 96}).fleet.endpoints
    assert _profile(capped).target_batch == 96
    assert _profile(free).target_batch == 256
    assert _profile(capped).name == _profile(free).name


def test_a_server_keeps_the_prompts_that_it_is_said_to_keep(tmp_path: Path) -> None:
    kept = {"endpoints/0/models/0/prefix_cache_tokens": 400_000}
    keeps, other = loaded(tmp_path, kept).fleet.endpoints
    assert _profile(keeps).prefix_cache_tokens == 400_000
    assert _profile(keeps).prefix_block == 16
    # None of those shipped is taken to keep any.
    assert _profile(other).prefix_cache_tokens == 0


def _profile(endpoint: Endpoint) -> TokenProfile:
    served: ServedModel = endpoint.models[0]
    assert isinstance(served.profile, TokenProfile)
    return served.profile


def test_defaults_of_the_settings(tmp_path: Path) -> None:
    settings = loaded(tmp_path).settings
    assert settings.server.listen == "127.0.0.1:8500"
    assert settings.server.admin == "127.0.0.1:9500"
    assert settings.clock is None
    assert settings.carbon.signal == Signal(Basis.AVERAGE, Factors.LIFECYCLE)
    assert settings.carbon.sources == (ClimatologySpec(), StaticSpec({}, shipped_table=True))
    assert settings.network_kwh_per_gb == 0.001
    assert settings.retry.max_attempts == 3
    assert settings.health.consecutive_failures == 5
    assert settings.load.scrape_s == 1.0


def test_the_replay_clock(tmp_path: Path) -> None:
    clock = loaded(tmp_path, {"clock": {"start": "2022-05-14T00:00Z", "speed": 1440}})
    assert clock.settings.clock == ClockSettings(1652486400.0, 1440.0)


def test_notes_say_what_is_legal_but_odd(tmp_path: Path) -> None:
    changes = {
        "regions/spare": {"grid_zone": "DE", "pue": 1.2},
        "origins/west/rtt_ms/spare": 140,
        "origins/east/rtt_ms/spare": 90,
        "endpoints/1/max_in_flight": 513,
        "endpoints/0/models/0/context_tokens": None,
    }
    notes = loaded(tmp_path, changes).notes
    assert notes == (
        "regions.spare: no endpoint runs there",
        "west-0: llama-3.1-8b has no context_tokens: over-long requests are forwarded and "
        "fail there",
        "east-0: max_in_flight 513 is over 4 times the 128 that classifier@cpu runs at once; the "
        "rest waits in the server's queue",
    )


def test_a_plain_configuration_has_no_notes(tmp_path: Path) -> None:
    assert loaded(tmp_path).notes == ()


def test_lengths_too_skewed_for_a_log_normal_are_noted(tmp_path: Path) -> None:
    (note,) = loaded(tmp_path, {"models/llama-3.1-8b/output_tokens_p95": 775}).notes
    assert "774 stands in for output_tokens_p95 775" in note
    assert loaded(tmp_path, {"models/llama-3.1-8b/output_tokens_p95": 773}).notes == ()


def test_a_process_buffers_four_messages_unless_told_otherwise(tmp_path: Path) -> None:
    assert loaded(tmp_path).settings.server.max_buffered_mib == 256
    assert loaded(tmp_path, {"server/max_message_mib": 8}).settings.server.max_buffered_mib == 32
    told = loaded(tmp_path, {"server/max_buffered_mib": 100}).settings.server
    assert told.max_buffered_mib == 100


def test_a_buffer_that_holds_no_message_is_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, {"server/max_buffered_mib": 63})
    assert "max_message_mib (64)" in str(found)

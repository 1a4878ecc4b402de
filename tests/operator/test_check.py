"""What `check` and `explain` find, without a socket."""

import pytest
import yaml

from router.errors import ConfigError, InvalidMetadataError, TraceError, UnknownModelError
from router.model import Budget, Request
from router.operator import check
from tests.app.support import START, configured, trace
from tests.config.samples import DELETE, write
from tests.factories import HOUR, NOW
from tests.fakes.secure import server_certificate
from tests.state.redis.servers import server

MODEL = "llama-3.1-8b"


def replaying(folder, changes=None):
    """A valid file whose clock starts in the trace's second hour."""
    return configured(folder, {"clock": {"start": "2023-11-14T22:10Z"}, **(changes or {})})


def test_the_replayed_hour_is_the_one_of_these_tests():
    assert START == NOW - 600.0
    assert yaml.safe_load("2023-11-14T22:00:00Z").timestamp() == START


def test_check_says_who_knows_each_grid_zone(tmp_path):
    notes = check.check(replaying(tmp_path))
    assert "US-CAL-CISO: known to trace:grid.csv" in notes
    assert "US-MIDA-PJM: known to trace:grid.csv" in notes
    assert not [note for note in notes if "stale" in note]


def test_check_warns_of_old_data(tmp_path):
    stale = [note for note in check.check(configured(tmp_path)) if "stale by the policy" in note]
    assert [note.partition(":")[0] for note in stale] == ["US-CAL-CISO", "US-MIDA-PJM"]


def test_check_warns_of_a_zone_without_a_value_now(tmp_path):
    rows = ((100, None), (100, 7))
    file = trace(tmp_path, *rows, zones=("US-CAL-CISO", "MARS"), start=START + HOUR)
    path = write(tmp_path, {
        "clock": {"start": "2023-11-14T22:10Z"},
        "regions/us-east/grid_zone": "MARS",
        "carbon": {"sources": [{"kind": "trace", "file": file, "value_kind": "forecast"}]},
    })  # fmt: skip
    assert [note for note in check.check(path) if note.startswith("MARS")] == [
        "MARS: known to trace:grid.csv",
        "MARS: no source has a value for it now; it would be excluded",
    ]


def test_check_repeats_what_the_file_itself_gives_reason_to_note(tmp_path):
    notes = check.check(replaying(tmp_path, {"endpoints/0/models/0/context_tokens": DELETE}))
    assert any("west-0" in note and "context_tokens" in note for note in notes)


def test_check_asks_the_store_only_when_told_to(tmp_path):
    path = replaying(tmp_path, {"state": {"redis": {"url": "unix:///nowhere"}}})
    assert check.check(path)
    with pytest.raises(ConfigError) as caught:
        check.check_store(path)
    assert caught.value.problems == (
        ("state.redis", "state store: it cannot be reached (/nowhere)"),
    )
    with server() as running:
        keys = {"url": running.url, "timeout_ms": 2000}
        path = replaying(tmp_path, {"state": {"redis": keys}})
        assert check.check_store(path).startswith("state.redis: the store answers")
    with pytest.raises(ConfigError, match="there is no store"):
        check.check_store(replaying(tmp_path))


def test_check_wants_the_password_of_the_store(tmp_path):
    keys = {"url": "unix:///nowhere", "password_file": "missing"}
    with pytest.raises(ConfigError, match=r"state\.redis\.password_file"):
        check.check(replaying(tmp_path, {"state": {"redis": keys}}))


def test_check_refuses_a_grid_zone_that_no_source_knows(tmp_path):
    path = configured(tmp_path, {"regions/us-east/grid_zone": "MARS"})
    with pytest.raises(ConfigError) as caught:
        check.check(path)
    assert caught.value.file == str(path)
    ((key, text),) = caught.value.problems
    assert key == "regions.us-east.grid_zone"
    assert "MARS" in text
    assert "g_per_kwh" in text


def test_check_refuses_what_load_refuses(tmp_path):
    with pytest.raises(ConfigError, match="unknown key"):
        check.check(write(tmp_path, {"servr": {}}))


def test_check_refuses_a_malformed_trace_and_names_it(tmp_path):
    path = configured(tmp_path)
    (tmp_path / "grid.csv").write_text("datetime,US-CAL-CISO\n2023-11-14T22:00Z,-3\n")
    with pytest.raises(TraceError, match=r"grid\.csv"):
        check.check(path)


def explained(path, at=NOW, **changes):
    return check.explain(path, Request(MODEL, origin="west", **changes), at).explanation


def test_explain_ranks_by_grams_at_the_time_asked_for(tmp_path):
    path = configured(tmp_path)
    assert [c.endpoint for c in explained(path).candidates] == ["west-0", "east-0"]
    later = explained(path, NOW + HOUR)
    assert [c.endpoint for c in later.candidates] == ["east-0", "west-0"]
    assert [c.g_per_kwh for c in later.candidates] == [150.0, 300.0]
    assert later.at == NOW + HOUR


def test_explain_without_a_time_takes_the_configured_clock(tmp_path):
    found = check.explain(replaying(tmp_path), Request(MODEL, origin="west"), None).explanation
    assert NOW <= found.at < NOW + 60.0
    assert found.candidates[0].g_per_kwh == 100.0


def test_explain_tells_why_a_candidate_is_out(tmp_path):
    path = configured(tmp_path)
    near = explained(path, budget=Budget(ttft_ms=50.0))
    assert [(c.endpoint, c.excluded) for c in near.candidates] == [
        ("west-0", ""), ("east-0", "ttft_budget"),
    ]  # fmt: skip
    here = explained(path, residency=frozenset({"eu"}))
    assert {c.excluded for c in here.candidates} == {"residency"}
    assert here.decision is None
    assert here.refusal_reason == "residency_excluded"


def test_explain_takes_every_replica_for_idle_and_healthy(tmp_path):
    assert {c.batch for c in explained(configured(tmp_path)).candidates} == {0.0}


def test_explain_of_what_nobody_serves_is_an_error(tmp_path):
    path = configured(tmp_path, {"default_origin": ""})
    with pytest.raises(UnknownModelError):
        check.explain(path, Request("gpt"), NOW)
    with pytest.raises(InvalidMetadataError, match="moon"):
        check.explain(path, Request(MODEL, origin="moon"), NOW)


def test_explain_twice_says_the_same(tmp_path):
    path = configured(tmp_path)
    assert explained(path).candidates == explained(path).candidates


def test_check_says_what_certificates_are_for_and_what_strangers_reach(tmp_path):
    server_certificate().write(tmp_path)
    pair = {"cert_file": "server.crt", "key_file": "server.key"}
    server = {"listen": "0.0.0.0:0", "tls": pair, "admin": "0.0.0.0:0", "insecure": True}
    notes = check.check(replaying(tmp_path, {"server": server}))
    assert [note for note in notes if note.startswith("server.tls: a certificate for localhost")]
    assert [note for note in notes if note.startswith("server.admin: 0.0.0.0:0 is reached")]
    (tmp_path / "server.key").write_text("")
    with pytest.raises(ConfigError, match=r"server\.tls\.key_file"):
        check.check(replaying(tmp_path, {"server": server}))

"""What `check` says of live providers, without a call."""

import pytest

from router.errors import ConfigError
from router.operator import check
from tests.config.samples import write

EIA = {"kind": "eia", "key_env": "EIA_KEY"}
MAPS = {"kind": "electricity_maps", "key_env": "EM_KEY"}
STANDING = [{"kind": "climatology"}, {"kind": "static"}]
WATTTIME = {"kind": "watttime", "user_env": "WT_USER", "password_env": "WT_PASSWORD"}
KEYS = {"EIA_KEY": "secret-1", "EM_KEY": "secret-2", "WT_USER": "me", "WT_PASSWORD": "secret-3"}


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def notes(folder, *sources, changes=None, **carbon):
    settings = {"sources": list(sources), **carbon}
    found = check.check(write(folder, {"carbon": settings, **(changes or {})}))
    assert not any("secret" in note for note in found)
    return found


def test_each_region_tells_who_answers(tmp_path):
    found = notes(tmp_path, EIA, MAPS, *STANDING, marginal={"sources": [WATTTIME]})
    assert (
        "regions.us-west (US-CAL-CISO): measured: eia, then electricity_maps; forecast: "
        "electricity_maps, then own; else climatology, then static; marginal beside: watttime"
    ) in found


def test_an_order_of_its_own_is_kept_to(tmp_path):
    order = {"US-CAL-CISO": {"sources": ["electricity_maps", "static"]}}
    found = notes(tmp_path, EIA, MAPS, *STANDING, zones=order)
    (west,) = [note for note in found if note.startswith("regions.us-west")]
    assert "measured: electricity_maps; forecast" in west
    assert "else static" in west


def test_a_zone_without_anything_standing_is_noted(tmp_path):
    found = notes(tmp_path, EIA)
    assert any("US-MIDA-PJM: if its providers are silent" in note for note in found)
    assert not any("silent" in note for note in notes(tmp_path, EIA, *STANDING))


def test_calls_are_told_beside_the_limit(tmp_path):
    (told,) = [n for n in notes(tmp_path, MAPS, *STANDING) if n.startswith("electricity_maps:")]
    # Two zones: 2 x 1.05 values, 2 / 6 histories, 2 / 3 forecasts an hour.
    assert told == (
        "electricity_maps: at most about 75 calls a day, 3.1 an hour; limit: 100 in 3600 s"
    )


def test_eight_zones_of_eia_are_one_call(tmp_path):
    (told,) = [n for n in notes(tmp_path, EIA, *STANDING) if n.startswith("eia:")]
    assert "about 30 calls a day, 1.2 an hour" in told


def test_more_than_the_limit_is_noted_with_its_fix(tmp_path):
    tight = {**MAPS, "limits": [{"calls": 24, "per_s": 86400}]}
    changes = {"server": {"workers": 2}}
    found = notes(tmp_path, tight, *STANDING, changes=changes)
    (told,) = [note for note in found if note.startswith("electricity_maps:")]
    assert "by 2 workers" in told
    assert "raise carbon.sources[0].limits" in told


def test_gateways_that_share_a_store_are_counted_once(tmp_path):
    changes = {
        "server": {"workers": 4},
        "state": {"redis": {"url": "redis://redis.internal:6379"}},
    }
    found = notes(tmp_path, MAPS, *STANDING, changes=changes)
    (told,) = [note for note in found if note.startswith("electricity_maps:")]
    assert "3.1 an hour by all gateways together; limit: 100" in told


def test_a_source_that_nobody_needs_is_noted(tmp_path):
    direct = {"kind": "entsoe", "key_env": "EIA_KEY"}
    pytest.importorskip("entsoe", reason="LOUD: entsoe-py is not installed")
    assert "entsoe: not asked for any region" in notes(tmp_path, EIA, direct, *STANDING)


def test_a_missing_key_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("EM_KEY")
    with pytest.raises(ConfigError, match=r"sources\[1\].key_env: environment variable EM_KEY"):
        notes(tmp_path, EIA, MAPS)


def test_an_id_that_cannot_be_is_told_at_its_key(tmp_path):
    gb = {"kind": "gb_carbon_intensity", "zones": {"GB": "42"}}
    static = {"kind": "static", "g_per_kwh": {"US-CAL-CISO": 1, "US-MIDA-PJM": 1}}
    with pytest.raises(ConfigError, match=r"carbon\.sources\[0\]\.zones\.GB: '42'"):
        notes(tmp_path, gb, static, factors="direct")


def test_at_another_time_live_providers_cannot_explain(tmp_path):
    from router.model import Request

    path = write(tmp_path, {"carbon": {"sources": [EIA, *STANDING]}})
    with pytest.raises(ConfigError, match="leave --at out"):
        check.explain(path, Request("llama-3.1-8b"), 1_700_000_000.0)

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from router.operator.show.summary import render_summary
from tests.config.samples import loaded


def shown(folder: Path, changes: dict[str, Any] | None = None, *notes: str) -> str:
    out = StringIO()
    Console(file=out, width=200).print(render_summary(loaded(folder, changes), notes))
    return out.getvalue()


def line(text: str, part: str) -> str:
    (found,) = [line for line in text.splitlines() if part in line]
    return found


def test_regions_models_policy_and_sources_are_all_there(tmp_path: Path) -> None:
    text = shown(tmp_path)
    assert "config.yaml: valid" in text
    west = line(text, "US-CAL-CISO")
    for part in ("us-west", "1.11", "512", "2-64", "us"):
        assert part in west
    assert "none stated" in line(text, "US-MIDA-PJM")
    assert "policy: carbon-first (per_gco2e 1; pack within 0.2%)" in text
    assert "budgets: the caller's only" in text
    assert "drops when nothing is feasible: carbon, policy_latency" in text
    assert "carbon: average intensity, lifecycle factors, read every 60 s" in text
    assert "1. climatology" in text
    assert "2. static: annual means, those that ship with the package" in text
    assert "clock" not in text
    assert "note" not in text


def test_figures_say_how_they_came_to_be(tmp_path: Path) -> None:
    rows = [line for line in shown(tmp_path).splitlines() if "@" in line]
    kinds = [row.split("│")[3].strip() for row in rows]
    assert kinds == ["emulated", "emulated", "measured"]


def test_whose_profiles_are_fitted_as_they_run_and_where_they_are_kept(tmp_path: Path) -> None:
    meter = {"endpoints/0/meter": {"kind": "emulated", "calibrate": {}}}
    assert "calibrated as they run: west-0; forgotten at the end" in shown(tmp_path, meter)
    kept = shown(tmp_path, {**meter, "state": {"file": "learned.json"}})
    assert "learned.json.profiles" in line(kept, "calibrated as they run: west-0; kept in")


def test_what_a_policy_demands_and_where_data_come_from(tmp_path: Path) -> None:
    (tmp_path / "grid.csv").write_text("datetime,X\n")
    changes = {
        "policy": {
            "weights": {"per_gco2e": 1, "per_e2e_ms": 0.1},
            "budget": {"ttft_ms": 300},
            "max_gco2e": 2,
            "max_g_per_kwh": 400,
            "quantile": 0.99,
            "ladder": [],
        },
        "clock": {"start": "2022-05-14T00:00Z", "speed": 1440},
        "carbon/sources": [
            {"kind": "trace", "file": "grid.csv", "lag_s": 3600},
            {"kind": "static", "g_per_kwh": {"DE": 400}},
        ],
    }
    text = shown(tmp_path, changes, "US-MIDA-PJM is known by annual mean only")
    assert "per_gco2e 1, per_e2e_ms 0.1" in text
    assert "TTFT 300 ms, 2 g a request, 400 g/kWh at p99" in text
    assert "nothing, refuse" in text
    assert "grid.csv: measured values, known 3600 s after each slot" in text
    assert "yours for DE and those that ship" in text
    assert "clock: replays carbon data from 2022-05-14T00:00Z at 1440x" in text
    assert "note: US-MIDA-PJM is known by annual mean only" in text


def test_a_note_is_shown_once(tmp_path: Path) -> None:
    assert shown(tmp_path, None, "twice", "twice").count("twice") == 1


def test_limits_on_where_requests_may_run_are_told(tmp_path: Path) -> None:
    changes = {
        "models/llama-3.1-8b/residency": ["us"],
        "tenants": {"acme": {"residency": ["us"]}},
    }
    told = line(shown(tmp_path, changes), "residency, held")
    assert "model llama-3.1-8b: us; tenant acme: us" in told
    assert "requests of other tenants, or of none, are refused" in told
    assert "residency, held" not in shown(tmp_path)


def test_carbon_budgets_are_told_in_words(tmp_path: Path) -> None:
    assert "carbon budgets" not in shown(tmp_path)
    budgets = [
        {"per": "tenant", "g_per_day": 50, "overrides": {"acme": 500, "b": 0.5}},
        {"per": "model", "overrides": {"classifier": 3}, "on_exhausted": "warn", "shadow": True},
        {"per": "fleet", "g_per_day": 10_000, "on_exhausted": "greenest_only", "name": "all"},
    ]
    text = shown(tmp_path, {"carbon_budget": budgets})
    assert "carbon budgets, of average/lifecycle grams a UTC day:" in text
    assert line(text, "tenant:").strip() == (
        "tenant: each tenant, 50 g, acme 500 g, b 0.5 g; then requests are refused"
    )
    assert line(text, "model:").strip() == (
        "model: each model, no limit, classifier 3 g; then requests are served and flagged; in its "
        "shadow nothing is done but told"
    )
    assert line(text, "all:").strip() == (
        "all: 10000 g; then requests are served where they emit least"
    )
    assert "others would spend as much" in text and "a restart forgets what is spent" in text
    assert "1 of 2 endpoints are emulated: their grams count, and nobody emits them" in text


def test_who_shares_carbon_budgets_is_told(tmp_path: Path) -> None:
    budget = {"carbon_budget": {"per": "fleet", "g_per_day": 1}}
    kept = shown(tmp_path, {**budget, "state": {"file": "s.json"}}).replace("\n", " ")
    assert "s.json.budget" in kept
    url = {"state": {"redis": {"url": "redis://127.0.0.1:6379"}}}
    assert "shared with all gateways of state.redis" in shown(tmp_path, {**budget, **url})


def test_what_gateways_have_in_common_and_no_secret(tmp_path: Path) -> None:
    assert "shared with" not in shown(tmp_path)
    plain = shown(tmp_path, {"state": {"redis": {"url": "unix:///run/redis.sock"}}})
    assert line(plain, "shared with").rstrip() == (
        "shared with other gateways: Redis at unix:///run/redis.sock, database 0, no TLS, without "
        "a password; the fleet is 'carbon-router'; 50 ms a call"
    )
    keys = {
        "url": "rediss+sentinel://a,b:7/main/2",
        "username": "gateway",
        "password_env": "REDIS_PASSWORD",
        "prefix": "prod",
    }
    full = " ".join(shown(tmp_path, {"state": {"redis": keys}}).split())
    assert (
        "Redis at a:26379, b:7 (main), database 2, sentinel, TLS, as gateway with a password; the "
        "fleet is 'prod'; 50 ms a call"
    ) in full


def test_places_of_discovery_say_what_they_will_do(tmp_path: Path) -> None:
    template = {
        "models": [{"name": "llama-3.1-8b", "profile": "llama-3.1-8b@1xh100"}],
        "max_in_flight": 64,
    }
    found = {"kind": "file", "name": "pods", "path": "pods.json", "template": template}
    bounds = {"networks": ["10.0.0.0/8"], "regions": {"zone-a": "us-east"}, "region": "us-west"}
    text = " ".join(shown(tmp_path, {"discovery": [{**found, **bounds}]}).split())
    assert "discovery pods: file" in text
    assert "at most 256, within 10.0.0.0/8, each serves llama-3.1-8b by oip in plaintext" in text
    assert "64 in flight; zone-a is us-east, else in us-west" in text


def told(folder: Path, changes: dict[str, Any], begin: str) -> str:
    """What begins so, up to the end, however it is wrapped."""
    text = shown(folder, changes)
    return " ".join(text[text.index(f"\n{begin}") :].split())


def test_what_aliases_choose_and_who_judges(tmp_path: Path) -> None:
    models = [
        {"name": name, "profile": f"{name}@{card}"}
        for name, card in (("llama-3.1-8b", "1xh100"), ("llama-3.1-70b", "4xh100"))
    ]
    lengths = {"input_tokens": 180, "output_tokens": 200, "output_tokens_p95": 480}
    alias = {
        "source": "our own test",
        "variants": {"llama-3.1-8b": 0.48, "llama-3.1-70b": 0.66},
        "floor": 0.4,
        "tenants": {"acme": {"mean_floor": 0.6}},
        "judge": {"kind": "rules", "phrases": ["no idea"]},
    }
    changes = {
        "server": {"http": "127.0.0.1:0"},
        "models/llama-3.1-70b": lengths,
        "endpoints/0/protocol": "openai",
        "endpoints/0/models": models,
        "endpoints/1/models": [{"name": "classifier", "profile": "classifier@cpu"}],
        "aliases": {"chat": alias},
    }
    assert told(tmp_path, changes, "alias").startswith(
        "alias chat: llama-3.1-8b 0.48, llama-3.1-70b 0.66 (by our own test); floor 0.4, of acme "
        "0.6 in the mean over 24 h; whole answers are judged by rules and 1 phrase"
    )
    alias["judge"] = {"kind": "http", "url": "http://judge.internal/accept"}
    text = told(tmp_path, changes, "alias")
    assert "judged by http://judge.internal/accept, within 1000 ms" in text
    del alias["judge"], alias["floor"]
    alone = told(tmp_path, changes, "alias")
    assert "floor none: any variant" in alone and "every answer stands" in alone


def test_where_work_waits_and_for_how_long(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "server": {"http": "127.0.0.1:0"},
        "deferral": {"dir": "later", "files": "s3://bucket/files"},
    }
    text = told(tmp_path, changes, "deferral")
    assert "the queue is in " in text and "later, callers' files in s3://bucket/files" in text
    assert "64 at once where less than 50%" in text
    assert "held open for 240 s and 256 at most" in text
    changes["deferral"] = {"dir": "later", "flex_wait_s": 0}
    assert "held open: none" in told(tmp_path, changes, "deferral")


def test_who_is_told_how_many_replicas_are_wanted(tmp_path: Path) -> None:
    hook = {"webhook": {"url": "https://fleet.internal/replicas"}, "wake_s": 20}
    text = told(tmp_path, {"scaling": hook}, "hints of replicas")
    assert "told to https://fleet.internal/replicas, every 60 s" in text
    assert "20 s to wake until it is measured; a restart forgets what is usual" in text
    kept = {"scaling": hook, "state": {"file": "learned.json"}}
    assert "learned.json.usual" in told(tmp_path, kept, "hints of replicas")
    asked = {"server": {"scaler": "127.0.0.1:9600"}}
    assert "told to who asks 127.0.0.1:9600" in told(tmp_path, asked, "hints of replicas")

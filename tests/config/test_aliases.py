"""``aliases``: names that stand for one of several models, and what is wrong with some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.model import Alias, HttpJudge, QualityFloors, RulesJudge, Variant
from router.units import HOUR_S
from tests.config.samples import loaded, problems

SMALL, LARGE = "llama-3.1-8b", "llama-3.3-70b"
TWO = {"source": "MMLU-Pro", "variants": {LARGE: 0.66, SMALL: 0.48}}
BASE = {
    f"models/{LARGE}": {"input_tokens": 90, "output_tokens": 250, "output_tokens_p95": 600},
    "endpoints/0/models/1": {"name": LARGE, "profile": "llama-3.3-70b@4xh100"},
}


def test_left_out_there_are_none(tmp_path: Path) -> None:
    assert loaded(tmp_path).fleet.aliases == {}


def test_an_alias_is_its_variants_from_the_least_to_the_best(tmp_path: Path) -> None:
    given = {**TWO, "floor": 0.5, "window_h": 2, "tenants": {"acme": {"mean_floor": 0.6}}}
    fleet = loaded(tmp_path, {**BASE, "aliases": {"chat": given}}).fleet
    assert fleet.aliases == {
        "chat": Alias(
            "chat",
            (Variant(SMALL, 0.48), Variant(LARGE, 0.66)),
            "MMLU-Pro",
            QualityFloors(0.5),
            {"acme": QualityFloors(0.0, 0.6)},
            2 * HOUR_S,
        )
    }
    # Until it has answers of its own, what its best variant is known for.
    assert fleet.priors["chat"] == fleet.priors[LARGE]
    alias = fleet.aliases["chat"]
    assert [alias.rank(floor) for floor in (0.0, 0.48, 0.5, 0.7)] == [0, 0, 1, 2]


def test_carbon_budgets_may_name_an_alias(tmp_path: Path) -> None:
    budget = {"per": "model", "overrides": {"chat": 5}, "on_exhausted": "variant"}
    found = loaded(tmp_path, {**BASE, "aliases": {"chat": TWO}, "carbon_budget": budget})
    assert found.settings.carbon_budgets.budgets[0].on_exhausted == "variant"


HTTP = {
    "endpoints/2": {
        "name": "http-0", "region": "us-west", "address": "127.0.0.1:9003", "max_in_flight": 8,
        "protocol": "openai",
        "models": [
            {"name": name, "profile": "llama-3.3-70b@4xh100"} for name in ("http-8b", "http-70b")
        ],
    },
    "server": {"http": "127.0.0.1:8000"},
    "models/http-8b": BASE[f"models/{LARGE}"], "models/http-70b": BASE[f"models/{LARGE}"],
}  # fmt: skip
OVER_HTTP = {"source": "x", "variants": {"http-8b": 0.48, "http-70b": 0.66}}


@pytest.mark.parametrize(
    ("given", "judge"),
    [
        ({"kind": "rules", "phrases": ["I do not know"]}, RulesJudge(("I do not know",))),
        ({"kind": "rules"}, RulesJudge()),
        ({"kind": "http", "url": "http://127.0.0.1:9/j"}, HttpJudge("http://127.0.0.1:9/j", 1.0)),
        (None, None),
    ],
)
def test_who_judges_is_named_by_kind(tmp_path: Path, given: Any, judge: Any) -> None:
    changes = {**HTTP, "aliases": {"chat": {**OVER_HTTP, "judge": given}}}
    assert loaded(tmp_path, changes).fleet.aliases["chat"].judge == judge


@pytest.mark.parametrize(
    ("alias", "key", "text"),
    [
        ({**TWO, "judge": {"kind": "rules"}}, "judge", "over openai alone"),
        (
            {"source": "x", "variants": {"http-8b": 0.5}, "judge": {"kind": "rules"}},
            "judge",
            "none to go on to",
        ),
        ({**OVER_HTTP, "judge": {"kind": "llm"}}, "judge", "llm"),
        ({**OVER_HTTP, "judge": {"kind": "http"}}, "judge.url", "required"),
        ({**OVER_HTTP, "judge": {"kind": "http", "url": "ftp://x"}}, "judge.url", "http"),
    ],
)
def test_a_judge_that_cannot_judge_is_told(tmp_path: Path, alias: Any, key: str, text: str) -> None:
    found = dict(problems(tmp_path, {**BASE, **HTTP, "aliases": {"chat": alias}}))
    assert text in found[f"aliases.chat.{key}"]


@pytest.mark.parametrize(
    ("alias", "key", "text"),
    [
        ({"source": "x", "variants": {}}, "variants", "must not be empty"),
        ({"variants": {SMALL: 0.5}}, "source", "required, but missing"),
        ({"source": "x", "variants": {SMALL: 0}}, f"variants.'{SMALL}'", "greater than 0"),
        (
            {"source": "x", "variants": {SMALL: 48}},
            f"variants.'{SMALL}'",
            "less than or equal to 1",
        ),
        ({"source": "x", "variants": {"llama": 0.5}}, "variants.llama", "unknown model 'llama'"),
        ({"source": "x", "variants": {"other": 0.5}}, "variants.other", "is an alias itself"),
        ({"source": "x", "variants": {"chat": 0.5}}, "variants.chat", "is an alias itself"),
        ({**TWO, "floor": 0.7}, "floor", "more than the best variant has, 0.66"),
        ({**TWO, "tenants": {"a": {"mean_floor": 0.7}}}, "tenants.a.mean_floor", "more than"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, alias: Any, key: str, text: str) -> None:
    aliases = {"chat": alias, "other": {"source": "x", "variants": {SMALL: 0.5}}}
    found = dict(problems(tmp_path, {**BASE, "aliases": aliases}))
    assert text in found[f"aliases.chat.{key}"]


def test_an_alias_is_no_model(tmp_path: Path) -> None:
    found = dict(problems(tmp_path, {"aliases": {SMALL: {**TWO, "variants": {SMALL: 0.5}}}}))
    assert "the name of a model that is served" in found[f"aliases.'{SMALL}'"]


def test_variants_are_served_over_one_protocol_and_run_in_the_same_places(tmp_path: Path) -> None:
    aliases = {"chat": TWO}
    narrow = {**BASE, f"models/{SMALL}/residency": ["us"], "aliases": aliases}
    found = dict(problems(tmp_path, narrow))
    assert "give all variants the same" in found[f"aliases.chat.variants.'{LARGE}'"]
    other = {
        "endpoints/2": {
            "name": "http-0", "region": "us-west", "address": "127.0.0.1:9003", "max_in_flight": 8,
            "protocol": "openai", "models": [{"name": LARGE, "profile": "llama-3.3-70b@4xh100"}],
        },
        "server": {"http": "127.0.0.1:8000"},
        f"models/{LARGE}": BASE[f"models/{LARGE}"],
    }  # fmt: skip
    found = dict(problems(tmp_path, {**other, "aliases": aliases}))
    assert "one request cannot go to either" in found[f"aliases.chat.variants.'{LARGE}'"]

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from router.lab.sim.scenario.schema import ScenarioSchema, json_schema


def test_the_json_schema_says_what_the_file_may_hold():
    schema = json.loads(json.dumps(json_schema()))
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {
        "start", "duration", "carbon", "workload", "regions", "endpoints",
    }  # fmt: skip
    assert set(schema["properties"]) == set(ScenarioSchema.model_fields)
    assert {one["type"] for one in schema["properties"]["duration"]["anyOf"]} == {
        "number", "string",
    }  # fmt: skip


ROOT = Path(__file__).resolve().parents[4]


def test_every_field_is_documented() -> None:
    path = ROOT / "tools" / "scenario_reference.py"
    if not path.exists():
        pytest.skip("FIELD TABLES NOT CHECKED: tools/ is not part of this distribution")
    spec = importlib.util.spec_from_file_location("scenario_reference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / "docs" / "scenarios.md").read_text("utf-8")
    assert module.fill(text) == text, "run tools/scenario_reference.py"
    assert module.undocumented(text) == set()

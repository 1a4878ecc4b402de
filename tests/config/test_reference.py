"""docs/config.md says what the schemas say, and what it shows is valid."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from annotated_types import Ge, Gt, Le, Lt

from router.app.loading import load
from router.config.weather import WeatherSchema

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "config.md"
CARBON = ROOT / "docs" / "carbon.md"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    path = ROOT / "tools" / "config_reference.py"
    spec = importlib.util.spec_from_file_location("config_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_schema_has_its_table(reference: ModuleType) -> None:
    assert reference.undocumented(PAGE.read_text(encoding="utf-8")) == set()


def test_every_table_is_up_to_date(reference: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert reference.fill(text) == text


def test_every_field_has_a_row_and_a_meaning(reference: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, schema in reference.schemas().items():
        block = text.split(f"<!-- fields {name} -->")[1].split("<!-- end -->")[0]
        for field, info in schema.model_fields.items():
            assert f"| `{field}` |" in block
            assert info.description, f"{name}.{field}"


def test_of_several_bounds_the_narrowest_are_told(reference: ModuleType) -> None:
    given = [Ge(1), Gt(0), Le(86_400), Le(300), Lt(300)]
    assert reference.bounds(given) == ">= 1, < 300"
    assert reference.bounds([Ge(0), Gt(0)]) == "> 0"
    assert reference.bounds([]) == ""


def test_the_example_is_valid(tmp_path: Path) -> None:
    example, *_ = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "config.yaml").write_text(example, encoding="utf-8")
    config = load(tmp_path / "config.yaml")
    assert len(config.fleet.endpoints) == 2
    assert config.notes == ()


def test_the_examples_of_live_carbon_are_valid(tmp_path: Path) -> None:
    given = re.findall(r"```yaml\n(.*?)```", CARBON.read_text(encoding="utf-8"), re.DOTALL)
    examples = [example for example in given if example.startswith("version:")]
    (weather,) = [yaml.safe_load(example) for example in given if example not in examples]
    WeatherSchema.model_validate(weather["carbon"]["weather"])
    assert len(examples) == 2
    for example in examples:
        (tmp_path / "config.yaml").write_text(example, encoding="utf-8")
        config = load(tmp_path / "config.yaml")
        assert len(config.fleet.endpoints) == 2
        assert config.notes == ()


def test_every_live_provider_is_explained(reference: ModuleType) -> None:
    text = CARBON.read_text(encoding="utf-8")
    carbon = reference.schemas()["CarbonSchema"]
    kinds = reference.describe(carbon.model_fields["sources"].annotation)
    for kind in re.findall(r"`(\w+)`", kinds):
        assert f"`{kind}`" in text, kind

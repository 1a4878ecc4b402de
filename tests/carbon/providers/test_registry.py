"""Providers that other packages bring, installed as pip leaves them, and the built-in ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.app.loading import load
from router.carbon.providers.registry import BUILT_IN, GROUP, providers
from router.carbon.providers.schema import ProviderSchema
from router.config.problems import tag
from tests.cli.test_cli import run
from tests.config.samples import problems, write

WEST, EAST = "US-CAL-CISO", "US-MIDA-PJM"
TOY = '''
from typing import Literal

from pydantic import Field

from router.carbon.providers.bands import with_band
from router.carbon.providers.provider import Reading, Want
from router.carbon.providers.schema import KeyedSchema
from router.config.live import LimitSchema, call_limits
from router.model import Kind


class Toy:
    """Says the same of every grid zone and hour."""

    wants = frozenset({Want.LATEST, Want.HISTORY})
    zones_per_call = 9
    publishes_every_s = 3600.0

    def __init__(self, places, key, g_per_kwh, signal, name):
        assert key.reveal() == "toy-key" and set(places.values()) <= {"cal", "pjm"}
        self.grid_zones = frozenset(places)
        self.g_per_kwh, self.signal, self.name = g_per_kwh, signal, name

    async def fetch(self, grid_zones, want, now, hours):
        end = now // 3600.0 * 3600.0 + 3600.0
        value = with_band(
            self.g_per_kwh, self.signal, Kind.ESTIMATED, self.name,
            observed_at=end, expires_at=end + 7200.0,
        )
        return {zone: Reading((value,)) for zone in grid_zones}


class ToySchema(KeyedSchema):
    """A toy."""

    wants = Toy.wants
    zone_ids = {"US-CAL-CISO": "cal"}
    zones_note = "knows California"

    kind: Literal["toy"] = Field(description="selects this source")
    g_per_kwh: float = Field(ge=0, description="what it says")
    limits: list[LimitSchema] = call_limits(60, 3600.0)

    def build(self, context):
        return Toy(context.zones, context.secret("key"), self.g_per_kwh, context.signal,
                   context.name)
'''
SOURCE = {"kind": "toy", "key_env": "TOY_KEY", "g_per_kwh": 123.0, "zones": {EAST: "pjm"}}

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install(package, code, kind, entry)``: puts a distribution of one module on the path."""
    site = tmp_path / "site"
    site.mkdir()

    def put(package: str, code: str, kind: str, entry: str) -> None:
        (site / f"{package}.py").write_text(code, encoding="utf-8")
        told = site / f"{package}-1.0.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (told / "entry_points.txt").write_text(f"[{GROUP}]\n{kind} = {package}:{entry}\n")
        # Restored at the end, as the path is.
        monkeypatch.setitem(sys.modules, package, sys)
        monkeypatch.delitem(sys.modules, package)
        monkeypatch.syspath_prepend(site)

    return put


def configured(folder: Path, *sources: dict[str, Any]) -> dict[str, Any]:
    return {"carbon": {"sources": [*sources, {"kind": "static"}]}}


def test_a_package_adds_a_provider(
    tmp_path: Path,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install("toy_grid", TOY, "toy", "ToySchema")
    monkeypatch.setenv("TOY_KEY", "toy-key")
    path = str(write(tmp_path, configured(tmp_path, SOURCE)))
    assert run("check", path) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "1. toy: live (measured), average/lifecycle" in told
    assert f"{EAST}: known to toy, static" in told
    assert "toy: at most about 30 calls a day, 1.2 an hour; limit: 60 in 3600 s" in told

    assert run("grid", WEST, EAST, "--config", path, "--json") == 0
    for zone in json.loads(capsys.readouterr().out):
        assert (zone["used"]["g_per_kwh"], zone["used"]["source"]) == (123.0, "toy")

    assert run("zones", "--provider", "toy", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["grid_zone"], row["ids"]["toy"]) == (WEST, "cal")
    assert run("zones", "--grid-zone", WEST) == 0
    assert "toy knows California" in " ".join(capsys.readouterr().out.split())
    assert run("schema", "config") == 0
    assert "g_per_kwh" in json.loads(capsys.readouterr().out)["$defs"]["ToySchema"]["properties"]


def test_its_keys_are_held_to_as_those_of_a_built_in_one(tmp_path: Path, install: Install) -> None:
    install("toy_grid", TOY, "toy", "ToySchema")
    wrong = {**SOURCE, "g_per_kw": 5, "roles": []}
    found = problems(tmp_path, configured(tmp_path, wrong, {"kind": "toy", "g_per_kwh": 1.0}))
    assert found == {
        "carbon.sources[0].g_per_kw": "unknown key 'g_per_kw'; did you mean 'g_per_kwh'?",
        "carbon.sources[0].roles": "must not be empty",
        "carbon.sources[1]": "give the key by one of key_env and key_file",
    }


def test_a_package_that_no_file_names_is_not_imported(tmp_path: Path, install: Install) -> None:
    install("toy_grid", "raise SystemExit('imported')", "toy", "ToySchema")
    load(write(tmp_path, configured(tmp_path)))
    found = problems(tmp_path, configured(tmp_path, {"kind": "toyy"}))
    assert found["carbon.sources[0]"].endswith("static, electricity_maps, watttime, "
        "gb_carbon_intensity, energy_charts, eia, entsoe, toy, got 'toyy'; did you mean 'toy'?"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "entry", "why"),
    [
        ("import no_such_module", "ToySchema",
         "toy_grid:ToySchema cannot be imported (ModuleNotFoundError: "
         "No module named 'no_such_module')"),
        ("", "ToySchema",
         "toy_grid:ToySchema cannot be imported (AttributeError: "
         "module 'toy_grid' has no attribute 'ToySchema')"),
        ("class ToySchema: pass", "ToySchema", "toy_grid:ToySchema is no ProviderSchema"),
        (TOY.replace('Literal["toy"]', 'Literal["play"]'), "ToySchema",
         "toy_grid:ToySchema has kind 'play'"),
        (TOY.replace("    limits: list", "    calls: list"), "ToySchema",
         "toy_grid:ToySchema has no limits"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_used_is_told_where_it_is_named(
    tmp_path: Path, install: Install, code: str, entry: str, why: str
) -> None:
    install("toy_grid", code, "toy", entry)
    found = problems(tmp_path, configured(tmp_path, SOURCE))
    assert found == {
        "carbon.sources[0]": f"'toy' is offered by package toy_grid, but {why}: mend or remove it"
    }


@pytest.mark.parametrize("kind", ["eia", "static"])
def test_none_takes_the_place_of_a_built_in_source(
    tmp_path: Path, install: Install, kind: str
) -> None:
    install("toy_grid", TOY.replace("toy", kind), kind, "ToySchema")
    found = problems(tmp_path, {"carbon": {"sources": [{"kind": kind}]}})
    assert found == {
        "carbon.sources[0]": f"{kind!r} is offered by package toy_grid, which is the name of a "
        "built-in source: remove it"
    }
    load(write(tmp_path, {"carbon": {"sources": [{"kind": "climatology"}]}}))


def test_two_packages_of_one_name_are_not_chosen_from(tmp_path: Path, install: Install) -> None:
    install("toy_grid", TOY, "toy", "ToySchema")
    install("another_grid", TOY, "toy", "ToySchema")
    assert problems(tmp_path, configured(tmp_path, SOURCE)) == {
        "carbon.sources[0]": "'toy' is offered by package another_grid and package toy_grid, and "
        "there can be but one: remove the others"
    }


@pytest.mark.parametrize("schema", BUILT_IN)
def test_a_built_in_one_is_known_by_its_kind(schema: type[ProviderSchema]) -> None:
    assert providers()[str(tag(schema))] is schema
    assert schema.model_fields.keys() >= {"kind", "limits"}
    for stem in schema.credentials:
        assert schema.model_fields.keys() >= {f"{stem}_env", f"{stem}_file"}


def test_knowing_them_loads_no_client_library() -> None:
    code = (
        "import sys, router.app.loading\n"
        "heavy = {'aiohttp', 'requests', 'pandas', 'entsoe', 'numpy', 'numba', 'grpc'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

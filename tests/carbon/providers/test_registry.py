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
from tests.carbon.packages import install
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
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``put(package, code, kind="toy")``: an installed package whose ToySchema is its provider."""

    def installed(package: str, code: str, kind: str = "toy") -> None:
        points = f"[{GROUP}]\n{kind} = {package}:ToySchema\n"
        install(tmp_path / "site", monkeypatch, package, code, points)

    return installed


def configured(folder: Path, *sources: dict[str, Any]) -> dict[str, Any]:
    return {"carbon": {"sources": [*sources, {"kind": "static"}]}}


def test_a_package_adds_a_provider(
    tmp_path: Path,
    put: Install,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put("toy_grid", TOY)
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


def test_its_keys_are_held_to_as_those_of_a_built_in_one(tmp_path: Path, put: Install) -> None:
    put("toy_grid", TOY)
    wrong = {**SOURCE, "g_per_kw": 5, "roles": []}
    found = problems(tmp_path, configured(tmp_path, wrong, {"kind": "toy", "g_per_kwh": 1.0}))
    assert found == {
        "carbon.sources[0].g_per_kw": "unknown key 'g_per_kw'; did you mean 'g_per_kwh'?",
        "carbon.sources[0].roles": "must not be empty",
        "carbon.sources[1]": "give the key by one of key_env and key_file",
    }


def test_a_package_that_no_file_names_is_not_imported(tmp_path: Path, put: Install) -> None:
    put("toy_grid", "raise SystemExit('imported')")
    load(write(tmp_path, configured(tmp_path)))
    found = problems(tmp_path, configured(tmp_path, {"kind": "toyy"}))
    kinds = ", ".join(("static", *(str(tag(schema)) for schema in BUILT_IN), "toy"))
    assert found["carbon.sources[0]"].endswith(f"{kinds}, got 'toyy'; did you mean 'toy'?")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nowhere", "cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        ("raise SystemExit(3)", "cannot be imported (SystemExit: 3)"),
        ("", "cannot be imported (AttributeError: module 'toy_grid' has no attribute 'ToySchema')"),
        ("class ToySchema: pass", "is no ProviderSchema"),
        (TOY.replace('Literal["toy"]', 'Literal["play"]'), "has kind 'play'"),
        (TOY.replace("    limits: list", "    calls: list"), "has no limits"),
        (TOY.replace("list[LimitSchema] = call_limits(60, 3600.0)", "int = 60"),
         "has limits that are no list[LimitSchema] (see call_limits)"),
        (TOY.replace("def build", "def built"), "has no build"),
        (TOY.replace("    zones_note", '    credentials = {"user": "user name"}\n    zones_note'),
         "has no user_env"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_used_is_told_where_it_is_named(
    tmp_path: Path, put: Install, code: str, why: str
) -> None:
    put("toy_grid", code)
    assert problems(tmp_path, configured(tmp_path, SOURCE)) == {
        "carbon.sources[0]": "'toy' is offered by package toy_grid, but toy_grid:ToySchema "
        f"{why}: mend or remove it"
    }


def test_a_name_that_is_no_kind_is_told_so(tmp_path: Path, put: Install) -> None:
    put("toy_grid", TOY.replace('"toy"', '"toy-grid"'), "toy-grid")
    (why,) = problems(tmp_path, configured(tmp_path, {**SOURCE, "kind": "toy-grid"})).values()
    assert "has a name that is no kind: lower-case letters, digits and _" in why


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (TOY.replace("return Toy(", "return toys("), "could not be built (NameError)"),
        (TOY.replace("    publishes_every_s", "    publishes"),
         "is no Provider, it lacks publishes_every_s"),
    ],
)  # fmt: skip
def test_one_that_builds_no_provider_is_told_where_it_is_named(
    tmp_path: Path, put: Install, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], code: str, why: str,
) -> None:  # fmt: skip
    put("toy_grid", code)
    monkeypatch.setenv("TOY_KEY", "toy-key")
    assert run("check", str(write(tmp_path, configured(tmp_path, SOURCE)))) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"carbon.sources[0]: 'toy' {why}: tell its authors" in told


def test_zones_tells_of_zones_that_only_a_package_knows_and_why_of_one_that_is_broken(
    put: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    put("toy_grid", TOY.replace('"US-CAL-CISO": "cal"', '"TOYLAND": "toy"'))
    assert run("zones", "--provider", "toy", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["grid_zone"], row["ids"]["toy"], row["cloud_regions"]) == ("TOYLAND", "toy", [])
    put("broken_grid", "import nowhere", "broken")
    assert run("zones", "--provider", "broken") == 1
    assert "'broken' is offered by package broken_grid" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["eia", "static"])
def test_none_takes_the_place_of_a_built_in_source(tmp_path: Path, put: Install, kind: str) -> None:
    put("toy_grid", TOY.replace("toy", kind), kind)
    found = problems(tmp_path, {"carbon": {"sources": [{"kind": kind}]}})
    assert found == {
        "carbon.sources[0]": f"{kind!r} is offered by package toy_grid, which is the name of a "
        "built-in source: remove it"
    }
    load(write(tmp_path, {"carbon": {"sources": [{"kind": "climatology"}]}}))


def test_two_packages_of_one_name_are_not_chosen_from(tmp_path: Path, put: Install) -> None:
    put("toy_grid", TOY)
    put("another_grid", TOY)
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

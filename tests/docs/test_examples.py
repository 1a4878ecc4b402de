"""What README and docs show is what the product does: files are valid, commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from pydantic import TypeAdapter

from router.app.loading import load
from router.carbon.providers.registry import providers
from router.cli import app
from router.config.document import parse
from router.config.identity import KeysFileSchema
from router.config.kinds import config_schema
from router.config.policy import PolicySchema
from router.lab.sim.scenario.schema import ScenarioSchema

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
HOUSE = ROOT / "ARCHITECTURE.md"
CHART = ROOT / "docker" / "helm" / "carbon-router" / "values.yaml"
PAGES = sorted([README, HOUSE, *(ROOT / "docs").rglob("*.md"), ROOT / "policies" / "README.md"])
if not README.exists():
    pytest.skip("DOCS NOT TRIED: they are not part of this distribution", allow_module_level=True)

SCHEMAS = (config_schema(providers()), ScenarioSchema, PolicySchema, KeysFileSchema)
_BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_COMMAND = re.compile(r"(?:^|`) *(?:[A-Z_]+=\S+ )?carbon-router ([a-z][a-z-]*\b[^`\n]*)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in _BLOCK.findall(page.read_text("utf-8")) if kind == language]


def cases(language: str) -> list[tuple[Path, str]]:
    return [(page, text) for page in PAGES for text in blocks(page, language)]


def named(case: object) -> str | None:
    return case.relative_to(ROOT).as_posix() if isinstance(case, Path) else None


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "router.cli", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(("page", "text"), cases("yaml"), ids=named)
def test_every_yaml_block_is_made_of_keys_that_exist(page: Path, text: str) -> None:
    data = parse(text, str(page))
    if text.startswith("# values.yaml"):
        # Of the Helm chart, which tests/real renders with it.
        assert data.keys() <= parse(CHART.read_text("utf-8"), str(CHART)).keys()
        data = data["config"]
    fitting = [schema for schema in SCHEMAS if data.keys() <= schema.model_fields.keys()]
    assert fitting, f"no file has the keys {', '.join(data)}"
    for key, value in data.items():
        field = fitting[0].model_fields[key]
        TypeAdapter(Annotated[field.annotation, field]).validate_python(value)


def test_the_configuration_of_the_readme_passes_check_as_it_stands(tmp_path: Path) -> None:
    text = blocks(README, "yaml")[0]
    (tmp_path / "config.yaml").write_text(text, "utf-8")
    assert len(text.splitlines()) <= 20
    assert load(tmp_path / "config.yaml").notes == ()
    checked = ran(tmp_path, "check", "config.yaml")
    assert checked.returncode == 0, checked.stderr
    assert "config.yaml: valid" in checked.stdout


def test_explain_shows_what_the_readme_shows(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(blocks(README, "yaml")[0], "utf-8")
    (command,) = re.findall(r"^carbon-router (explain .*)$", README.read_text("utf-8"), re.M)
    explained = ran(tmp_path, *shlex.split(command))
    assert explained.returncode == 0, explained.stderr
    lines = [line.rstrip() for line in explained.stdout.splitlines()]
    (text,) = [one for one in blocks(README, "") if one.startswith("policy carbon-first: cost")]
    shown = text.splitlines()
    first = lines.index(shown[0])
    assert lines[first : first + len(shown)] == shown


def commands() -> list[tuple[Path, str]]:
    found = []
    for page in PAGES:
        # What stands behind a # is a remark in a block, or a heading.
        for line in (line.partition("#")[0] for line in page.read_text("utf-8").splitlines()):
            for command in _COMMAND.findall(line):
                found.append((page, re.sub(r"[\[\]]|  .*", "", command).strip()))
    return found


def app_commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


@pytest.mark.parametrize(("page", "command"), commands(), ids=named)
def test_every_command_is_one_with_such_options(page: Path, command: str) -> None:
    name, *arguments = shlex.split(command.rstrip(".,;:"))
    if arguments or "--" in command:
        app_commands()[name].make_context(name, arguments)
    assert name in app_commands()


def anchors(page: Path) -> set[str]:
    plain = (re.sub(r"[^\w\- ]", "", one.lower()) for one in _HEADING.findall(page.read_text()))
    return {one.strip().replace(" ", "-") for one in plain}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text("utf-8")):
        file, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


PLACES = sorted(
    set(re.findall(r"`([a-z_]+(?:/[a-z_]+)+/?)(?:\.(?!py`)(\w+)|\.py)?`", HOUSE.read_text()))
)


@pytest.mark.parametrize(("place", "name"), PLACES)
def test_what_the_architecture_names_is_there(place: str, name: str) -> None:
    """``core/pipeline.decide``: of `router`; whole paths as they are."""
    found = [
        path
        for folder in (ROOT, ROOT / "router")
        for path in (folder / place, folder / f"{place}.py")
        if path.exists()
    ]
    assert found, place
    assert not name or re.search(rf"(def|class) {name}\b", found[0].read_text("utf-8"))

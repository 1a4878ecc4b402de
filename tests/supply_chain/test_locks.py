"""What is installed by its hashes is what constraints.txt says, and no file names a place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HASHED = ("docker/requirements.lock", "docker/build.lock", "tools/sbom.lock")
PRODUCT = HASHED[0]
# Options and addresses of indexes, and paths; pins, markers and hashes alone are none.
LINE = re.compile(
    r"[a-z0-9-]+(\[[a-z,-]+\])?==[\w.]+( ; [\w.'<>=! ]+)?( --hash=sha256:[0-9a-f]{64})*"
)


def lines(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return [re.sub(r"\s+", " ", line) for line in text.replace("\\\n", " ").splitlines() if line]


def pins(name: str) -> dict[str, set[tuple[str, str]]]:
    """By distribution: versions, each with where it is meant for."""
    found: dict[str, set[tuple[str, str]]] = {}
    for line in lines(name):
        read = Requirement(line.partition(" --hash")[0])
        pin = (str(read.specifier), str(read.marker or ""))
        found.setdefault(canonicalize_name(read.name), set()).add(pin)
    return found


@pytest.mark.parametrize("name", ["constraints.txt", *HASHED])
def test_a_lock_has_pins_alone(name: str) -> None:
    strange = [line for line in lines(name) if not LINE.fullmatch(line)]
    assert not strange


@pytest.mark.parametrize("name", HASHED)
def test_every_pin_has_its_hashes(name: str) -> None:
    assert not [line for line in lines(name) if "--hash=sha256:" not in line]


def test_constraints_have_none_since_pip_would_refuse_them() -> None:
    assert not [line for line in lines("constraints.txt") if "--hash" in line]


@pytest.mark.parametrize("name", HASHED)
def test_all_locks_say_the_same_versions(name: str) -> None:
    constraints = pins("constraints.txt")
    for distribution, versions in pins(name).items():
        if distribution in constraints:
            known = {version for version, _ in constraints[distribution]}
            assert {version for version, _ in versions} <= known, distribution


def test_what_serves_is_locked_whole() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["fast"], *extras["jwt"]]
    locked = pins(PRODUCT)
    for text in named:
        requirement = Requirement(text)
        versions = locked[canonicalize_name(requirement.name)]
        for version, _ in versions:
            assert requirement.specifier.contains(version.removeprefix("==")), text
    # And nothing that no lock but its own knows.
    assert locked.keys() <= pins("constraints.txt").keys()


def test_what_builds_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for text in project["build-system"]["requires"]:
        assert canonicalize_name(Requirement(text).name) in pins("docker/build.lock")

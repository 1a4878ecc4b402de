"""Licences of everything that constraints.txt names: into docs/licences.md, or `--check`.

A distribution's licence is what its own metadata states, as an SPDX expression; where that says
nothing clear, what tools/licences.toml says was read. Every one is held to the closed lists there.
`--check` asks no network: what is not installed here (other platforms and versions of Python, the
extras `ray` and `llm`) counts as the page has it, and a version that the page does not have fails.
Without it the page is made anew; what is then installed nowhere here is asked of pip.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from license_expression import ExpressionError, Licensing, get_spdx_licensing
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"
RULES = ROOT / "tools" / "licences.toml"
PAGE = ROOT / "docs" / "licences.md"
BLOCK = re.compile(r"(<!-- licences -->\n).*?(<!-- end -->)", re.DOTALL)
PRODUCT = "product"
# Where extras are that do not get along in one environment (tests/real/install).
ELSEWHERE = ("ray", "llm")
# A requirement counts where any of these would install it.
PLATFORMS = [
    {"python_full_version": version, "python_version": "3." + version.split(".")[1]} | platform
    for version in ("3.11.0", "3.11.9", "3.12.0", "3.13.0", "3.14.0")
    for platform in (
        {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
        {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
        {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
    )
]


class Stated(NamedTuple):
    """What a distribution says of itself. ``licence``: its metadata's `License-Expression`, else
    `License` where that is one line; ``classifiers``: those of licences, by their last part."""

    name: str
    version: str
    licence: str
    classifiers: tuple[str, ...]
    requires: tuple[str, ...]


class Rules(NamedTuple):
    """tools/licences.toml: licences with why they may be, and what unclear metadata means."""

    allowed: Mapping[str, str]
    allowed_in_extras: Mapping[str, str]
    words: Mapping[str, str]
    read: Mapping[str, str]


class Row(NamedTuple):
    """One line of the page. ``needed_by``: the product, or the extras that bring it."""

    name: str
    version: str
    licence: str
    needed_by: tuple[str, ...]


class UnclearLicence(Exception):
    """Metadata that names no licence, or one that is no SPDX expression."""


@cache
def spdx_licences() -> Licensing:
    """SPDX's list, which takes long to read."""
    return get_spdx_licensing()


def spdx(stated: Stated, rules: Rules) -> str:
    """The licence as an SPDX expression.

    Raises UnclearLicence.
    """
    if stated.name in rules.read:
        return rules.read[stated.name]
    words = [stated.licence] if stated.licence else list(stated.classifiers)
    if len(words) != 1:
        raise UnclearLicence(f"{stated.name} {stated.version}: names {words or 'no licence'}")
    text = rules.words.get(words[0], words[0])
    try:
        return str(spdx_licences().parse(text, validate=True, strict=True).render())
    except (ExpressionError, AttributeError) as error:
        raise UnclearLicence(f"{stated.name} {stated.version}: {text!r} is unclear") from error


def permits(expression: str, allowed: Iterable[str]) -> bool:
    """Whether licences that are ``allowed`` suffice: all of an AND, one of an OR."""
    if expression in (names := frozenset(allowed)):
        return True
    licensing = spdx_licences()

    def holds(node: Any) -> bool:
        if isinstance(node, licensing.AND):
            return all(holds(part) for part in node.args)
        if isinstance(node, licensing.OR):
            return any(holds(part) for part in node.args)
        return node.render() in names

    return holds(licensing.parse(expression))


def one_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[0] if len(lines) == 1 else ""


def last_parts(classifiers: Iterable[str]) -> tuple[str, ...]:
    licences = (one for one in classifiers if one.startswith("License :: OSI Approved :: "))
    return tuple(one.rpartition(" :: ")[2] for one in licences)


def installed(paths: list[str]) -> dict[tuple[str, str], Stated]:
    """Distributions in folders of packages, by name and version."""
    found = {}
    for one in metadata.distributions(path=paths):
        said = one.metadata
        name = str(canonicalize_name(said["Name"]))
        found[name, one.version] = Stated(
            name,
            one.version,
            said.get("License-Expression") or one_line(said.get("License")),
            last_parts(said.get_all("Classifier") or []),
            tuple(one.requires or ()),
        )
    return found


def here() -> dict[tuple[str, str], Stated]:
    """What is installed in this environment and in those of ``ELSEWHERE``, where they are."""
    elsewhere = [
        str(path) for name in ELSEWHERE for path in ROOT.glob(f".venv-{name}/lib/*/site-packages")
    ]
    return installed(elsewhere) | installed(sys.path)


def asked(name: str, version: str) -> Stated:
    """What a distribution that is installed nowhere here says of itself, by pip."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"]
    command += ["--ignore-installed", "--only-binary=:all:", "--target=nowhere", "--report=-"]
    for python in ("3.13", "3.11"):
        done = subprocess.run(
            [*command, f"--python-version={python}", f"{name}=={version}"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            said = json.loads(done.stdout)["install"][0]["metadata"]
            licence = said.get("license_expression") or one_line(said.get("license"))
            classifiers = last_parts(said.get("classifier", []))
            return Stated(name, version, licence, classifiers, tuple(said.get("requires_dist", ())))
    raise UnclearLicence(f"{name} {version}: pip has no wheel of it")


def locked() -> list[tuple[str, str]]:
    """Name and version of every line of constraints.txt."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    pins = (Requirement(line) for line in lines if line)
    return [(str(canonicalize_name(r.name)), next(iter(r.specifier)).version) for r in pins]


def rules() -> Rules:
    """tools/licences.toml, whole."""
    return Rules(**tomllib.loads(RULES.read_text(encoding="utf-8")))


@cache
def read(text: str) -> Requirement:
    """A requirement; they are many, and most are asked for again."""
    return Requirement(text)


@cache
def wanted(marker: Marker | None, extra: str) -> bool:
    """Whether any platform installs what has this marker, with ``extra``."""
    return marker is None or any(marker.evaluate({**one, "extra": extra}) for one in PLATFORMS)


def closure(roots: Iterable[str], known: Iterable[Stated]) -> set[str]:
    """Names of everything that ``roots`` bring, as requirements of ``known`` distributions say."""
    requires: dict[str, list[str]] = {}
    for one in known:
        requires.setdefault(one.name, []).extend(one.requires)
    seen: set[tuple[str, str]] = set()
    todo = [(read(root), "") for root in roots]
    while todo:
        requirement, extra = todo.pop()
        if not wanted(requirement.marker, extra):
            continue
        name = str(canonicalize_name(requirement.name))
        for of in {"", *requirement.extras}:
            if (name, of) not in seen:
                seen.add((name, of))
                todo += [(read(text), of) for text in requires.get(name, ())]
    return {name for name, _ in seen}


def needs(known: Mapping[tuple[str, str], Stated]) -> dict[str, tuple[str, ...]]:
    """Who needs each distribution: the product, else those of its extras that do."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    itself = Stated(
        project["name"],
        "",
        "",
        (),
        tuple(
            f'{requirement} {"and" if ";" in requirement else ";"} extra == "{extra}"'
            for extra, brought in extras.items()
            for requirement in brought
        ),
    )
    everything = [*(known[pin] for pin in locked() if pin in known), itself]
    needed = dict.fromkeys(closure(project["dependencies"], everything), (PRODUCT,))
    for extra in extras:
        for name in closure([f"{project['name']}[{extra}]"], everything) - {project["name"]}:
            if needed.get(name) != (PRODUCT,):
                needed[name] = (*needed.get(name, ()), extra)
    return needed


def table(rows: Iterable[Row]) -> str:
    """The page's table in Markdown."""
    lines = ["| distribution | version | licence | comes with |", "|---|---|---|---|"]
    lines += [f"| {r.name} | {r.version} | {r.licence} | {', '.join(r.needed_by)} |" for r in rows]
    return "\n".join(lines) + "\n"


def recorded(text: str) -> dict[tuple[str, str], Row]:
    """The rows of the page, by name and version."""
    block = BLOCK.search(text)
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (block[0].splitlines()[3:-1] if block else ())
    ]
    rows = [Row(c[0], c[1], c[2], tuple(c[3].split(", "))) for c in cells]
    return {(row.name, row.version): row for row in rows}


def refused(rows: Iterable[Row], lists: Rules) -> list[str]:
    """What of ``rows`` has a licence that it may not have."""
    problems = []
    for row in rows:
        allowed = set(lists.allowed)
        if PRODUCT not in row.needed_by:
            allowed |= set(lists.allowed_in_extras)
        if not permits(row.licence, allowed):
            where = ", ".join(row.needed_by)
            problems.append(f"{row.name} {row.version} ({where}): {row.licence} is not allowed")
    return problems


def differences(
    pins: Iterable[tuple[str, str]],
    known: Mapping[tuple[str, str], Stated],
    page: Mapping[tuple[str, str], Row],
    lists: Rules,
) -> list[str]:
    """Where the page is not what is locked, nor what is installed here says."""
    problems = []
    needed = needs(known)
    for pin in pins:
        name, version = pin
        row = page.get(pin)
        if row is None:
            problems.append(f"{name} {version}: the page does not have it")
        elif pin in known:
            try:
                licence = spdx(known[pin], lists)
            except UnclearLicence as error:
                problems.append(str(error))
                continue
            if licence != row.licence:
                problems.append(f"{name} {version}: {licence}, on the page {row.licence}")
            if missing := set(needed.get(name, ())) - set(row.needed_by):
                problems.append(f"{name}: comes with {', '.join(sorted(missing))}, too")
    gone = set(page) - set(pins)
    problems += [f"{name} {version}: is locked no more" for name, version in sorted(gone)]
    return problems


def check() -> int:
    lists, pins = rules(), locked()
    page = recorded(PAGE.read_text(encoding="utf-8"))
    problems = differences(pins, here(), page, lists) + refused(page.values(), lists)
    if not problems:
        print(f"licences: {len(pins)} distributions, all on the list")
    return told(problems)


def told(problems: list[str]) -> int:
    """The exit code, once all ``problems`` have been said."""
    for problem in problems:
        print(f"licences: {problem}", file=sys.stderr)
    if problems:
        print("licences: tools/licences.toml has the lists; `make lock` the page", file=sys.stderr)
    return 1 if problems else 0


def write() -> int:
    lists, pins, known = rules(), locked(), here()
    known |= {pin: asked(*pin) for pin in pins if pin not in known}
    needed = needs(known)
    rows, problems = [], []
    for pin in pins:
        try:
            rows.append(Row(*pin, spdx(known[pin], lists), needed[pin[0]]))
        except UnclearLicence as error:
            problems.append(str(error))
    text = PAGE.read_text(encoding="utf-8")
    new = BLOCK.sub(lambda block: block[1] + table(rows) + block[2], text)
    PAGE.write_text(new, encoding="utf-8")
    return told(problems + refused(rows, lists))


if __name__ == "__main__":
    try:
        raise SystemExit(check() if "--check" in sys.argv[1:] else write())
    except UnclearLicence as error:
        raise SystemExit(f"licences: {error}") from error

"""Known vulnerabilities of everything locked here, by pip-audit and the OSV database.

Fails on an advisory that tools/audit.toml does not bear, and on a lock file that cannot be read.
Without the database (no network, an error of its, too slow) it says so in one line and does not
fail: whoever releases looks for that line. OSV_URL names another database of the same API.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("constraints.txt", "docker/requirements.lock", "docker/build.lock", "tools/sbom.lock")
BORNE = ROOT / "tools" / "audit.toml"
OSV_URL = "https://api.osv.dev/v1/query"
# Whether anybody is there at all; looking a name up may hang longer than any time-out of a socket.
PROBE_S = 4.0
# One question a distribution.
QUESTION_S = 10
WHOLE_S = 120.0


class Borne(NamedTuple):
    """An advisory that is known. ``until``: the last day on which it does not fail."""

    id: str
    because: str
    until: datetime.date


class Finding(NamedTuple):
    """An advisory of something locked. ``ids``: all that it is known by."""

    distribution: str
    ids: tuple[str, ...]
    fixed_in: str


class AuditSkipped(Exception):
    """The database did not answer, and why."""


def borne(path: Path = BORNE) -> list[Borne]:
    """Every entry of tools/audit.toml, whole.

    Raises TypeError on one with a key that is missing or unknown.
    """
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("borne", [])
    return [Borne(**entry) for entry in entries]


def probe(url: str, within_s: float = PROBE_S) -> None:
    """Whether the database answers.

    Raises AuditSkipped.
    """
    why = [f"no answer within {within_s:g} s"]

    def ask() -> None:
        try:
            requests.post(url, json={}, timeout=within_s)
        except requests.RequestException as error:
            why[0] = type(error).__name__
        else:
            why[0] = ""

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(within_s)
    if why[0]:
        raise AuditSkipped(why[0])


def pins(text: str) -> set[tuple[str, str]]:
    """Name and version of every line of a lock file, for whatever platform.

    Raises ValueError on a line that pins nothing.
    """
    found = set()
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        requirement = Requirement(line.partition(" --hash")[0])
        versions = [one.version for one in requirement.specifier if one.operator == "=="]
        if len(versions) != 1:
            raise ValueError(f"{line!r} names no version")
        found.add((canonicalize_name(requirement.name), versions[0]))
    return found


def one_version_each(every: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """All pins, versions by name: pip-audit takes no two of one distribution at once."""
    files: list[dict[str, str]] = []
    for name, version in sorted(every):
        free = next((one for one in files if name not in one), None)
        if free is None:
            files.append(free := {})
        free[name] = version
    return files


def pip_audit(every: Mapping[str, str], url: str, *options: str) -> Any:
    """pip-audit's report on pins, a version by name, by the database at ``url``.

    Raises AuditSkipped where the database is why there is none, else ChildProcessError.
    """
    with tempfile.TemporaryDirectory() as folder:
        lock, report = Path(folder) / "lock.txt", Path(folder) / "report.json"
        lock.write_text("".join(f"{name}=={every[name]}\n" for name in every), encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip"]
        command += ["--vulnerability-service=osv", f"--osv-url={url}", f"--timeout={QUESTION_S}"]
        command += ["--progress-spinner=off", "--format=json", f"--output={report}"]
        try:
            done = subprocess.run(
                [*command, f"--requirement={lock}", *options],
                capture_output=True,
                text=True,
                timeout=WHOLE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AuditSkipped(f"not done after {WHOLE_S:g} s") from error
        if report.exists():
            return json.loads(report.read_text(encoding="utf-8"))
    last = (done.stderr.strip().splitlines() or ["no report"])[-1]
    if "--dry-run" in options:
        if done.returncode:
            raise ChildProcessError(last)
        return None
    # Whose fault it was: without the database everything else has to go well.
    pip_audit(every, url, "--dry-run")
    raise AuditSkipped(last)


def findings(reports: Iterable[Any]) -> list[Finding]:
    """What pip-audit's reports have, each distribution and advisory once."""
    return sorted(
        {
            Finding(
                f"{one['name']} {one['version']}",
                (found["id"], *found["aliases"]),
                ", ".join(found["fix_versions"]) or "nothing yet",
            )
            for report in reports
            for one in report["dependencies"]
            for found in one["vulns"]
        }
    )


def problems(found: Iterable[Finding], known: Iterable[Borne], today: datetime.date) -> list[str]:
    """What of ``found`` is not borne today, and what is borne for nothing."""
    found = list(found)
    named = {id for finding in found for id in finding.ids}
    in_force = {entry.id for entry in known if today <= entry.until}
    said = [
        f"{one.distribution}: {' = '.join(one.ids)}, fixed in {one.fixed_in}"
        for one in found
        if not in_force & set(one.ids)
    ]
    said += [f"{entry.id}: concerns nothing here" for entry in known if entry.id not in named]
    return said


def main() -> int:
    known = borne()
    every = set().union(*(pins((ROOT / lock).read_text(encoding="utf-8")) for lock in LOCKS))
    url = os.environ.get("OSV_URL", OSV_URL)
    try:
        probe(url)
        reports = [pip_audit(pinned, url) for pinned in one_version_each(every)]
    except AuditSkipped as skipped:
        print(f"AUDIT SKIPPED, vulnerabilities unknown: the database was not reached ({skipped})")
        return 0
    said = problems(findings(reports), known, datetime.date.today())
    for one in said:
        print(f"audit: {one}", file=sys.stderr)
    if said:
        print("audit: mend by `make lock`, or say why not in tools/audit.toml", file=sys.stderr)
        return 1
    print(f"audit: {len(every)} distributions, nothing known against them")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

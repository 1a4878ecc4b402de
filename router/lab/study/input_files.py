"""What a study was made from: the scenario's own text, and every file that it names, by digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from router.config.document import parse
from router.lab.sim.scenario.schema import ScenarioSchema
from router.lab.sim.simulation import Simulation
from router.model import Policy, Profile


class InputFile(NamedTuple):
    """A file. ``role``: the key that names it; ``digest``: SHA-256 of its bytes, of a ledger over
    those of its files of receipts."""

    role: str
    file: str
    digest: str


class Inputs(NamedTuple):
    """``digest``: SHA-256 over the bytes of every source, wherever the files lie."""

    schema: ScenarioSchema
    sources: tuple[InputFile, ...]
    digest: str


def read_inputs(file: Path) -> Inputs:
    """Of a scenario that has been loaded, and is therefore valid."""
    text = file.read_text(encoding="utf-8-sig")
    schema = ScenarioSchema.model_validate(parse(text, str(file)))
    named = (
        ("carbon.file", schema.carbon.file),
        ("signal.file", schema.signal.file),
        ("signal.weather", schema.signal.weather),
        ("rtt.file", schema.rtt.file if schema.rtt else None),
        ("workload.file", schema.workload.file),
    )
    sources = [InputFile("scenario", file.name, _sha256(file))]
    for role, name in named:
        if name is not None:
            sources.append(InputFile(role, Path(name).name, _sha256(file.parent / name)))
    together = json.dumps({source.role: source.digest for source in sources}, sort_keys=True)
    return Inputs(schema, tuple(sources), hashlib.sha256(together.encode()).hexdigest())


def _sha256(path: Path) -> str:
    if path.is_dir():
        files = sorted(path.glob("receipts/date=*/hour=*/*.parquet"))
        names = [f"{one.relative_to(path).as_posix()} {_sha256(one)}" for one in files]
        return hashlib.sha256("\n".join(names).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def policy_values(policy: Policy) -> dict[str, Any]:
    """A policy as plain values; limits without a bound are left out."""
    found = asdict(policy) | {
        "weights": policy.weights._asdict(),
        "budget": {
            name: value for name, value in policy.budget._asdict().items() if name != "explicit"
        },
        "signal": f"{policy.signal.basis}, {policy.signal.factors}",
    }
    plain = json.loads(json.dumps(found, default=str))
    return _bounded(plain)


def _bounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _bounded(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value != float("inf")
    }


def profiles(simulation: Simulation) -> tuple[Profile, ...]:
    """Every profile that the fleet uses, by name."""
    found = {
        served.profile.name: served.profile
        for endpoint in simulation.fleet.endpoints
        for served in endpoint.models
    }
    return tuple(found[name] for name in sorted(found))

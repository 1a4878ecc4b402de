"""A scenario's fleet and policies -> the configuration that `serve` would have, then its values.

The scenario's own spellings are turned into those of ``router.config.schema``, so that every
reference, file and budget is checked by the same code; problems come back under its own keys.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from router.config.build import build
from router.config.checks import check_signal
from router.config.endpoints import EndpointSchema
from router.config.feasibility import check_feasible
from router.config.loading import Parsed, parse_policy
from router.config.policy import PolicySchema
from router.config.problems import Problem, from_validation
from router.config.schema import ConfigSchema, OriginSchema
from router.config.settings import HealthSettings
from router.config.sources import CarbonSchema, TraceSchema
from router.errors import ConfigError
from router.lab.sim.scenario.schema import ReplicasSchema, ScenarioSchema
from router.model import Budget, Fleet, Policy, Signal

BASELINES = (
    "latency-first", "latency-first-packed", "least-loaded", "round-robin", "static-greenest",
    "static-greenest-packed", "carbon-first-spread",
)  # fmt: skip
_ENDPOINT = re.compile(r"endpoints\[(\d+)\]")
_RTT_OF = re.compile(r"origins\.(.+)\.rtt_ms")
_Model = TypeVar("_Model", bound=BaseModel)


class Assembled(NamedTuple):
    """What a scenario shares with `serve`. ``replicas``: endpoint entry to its endpoints' names."""

    fleet: Fleet
    policies: tuple[Policy, ...]
    health: HealthSettings
    network_kwh_per_gb: float
    replicas: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


def assemble(
    schema: ScenarioSchema, file: Path, policies: Sequence[str], signal: Signal
) -> Assembled:
    """Fleet and policies of a scenario; ``policies`` (names or paths) replace those of the file.

    Raises ConfigError with every problem found, under the keys of the scenario.
    """
    chosen, key = _chosen(schema, policies)
    parsed = [_policy(policy, key, place, file) for place, policy in enumerate(chosen)]
    endpoints, places, replicas = _expand(schema.endpoints)
    first, name = parsed[0]
    try:
        config_schema = _config(schema, file, endpoints)
        config = build(Parsed(file=file, schema=config_schema, policy=first, policy_name=name))
    except ConfigError as error:
        raise ConfigError(
            str(file), [_of_table(_renamed(one, places, key), schema) for one in error.problems]
        ) from error
    built = [config.policy]
    problems: list[Problem] = []
    notes = list(config.notes)
    for place, (policy, name) in enumerate(parsed[1:], 1):
        found = check_signal(policy, config_schema.carbon)
        built.append(policy.build(name, signal))
        bad, remarks = check_feasible(built[-1], config.fleet)
        problems += [(f"{key}[{place}]", text) for _, text in (*found, *bad)]
        notes += remarks
    names = [policy.name for policy in built]
    for place, name in enumerate(names):
        if names.index(name) < place:
            text = f"{name!r} is the name of {key}[{names.index(name)}] too; set another `name`"
            problems.append((f"{key}[{place}]", text))
    if problems:
        raise ConfigError(str(file), problems)
    settings = config.settings
    return Assembled(
        config.fleet, tuple(built), settings.health, settings.network_kwh_per_gb, replicas,
        _by_entry(notes, replicas),
    )  # fmt: skip


def baseline_policies(policies: Sequence[Policy], signal: Signal) -> tuple[Policy, ...]:
    """The baselines that ``policies`` lack, under the first one's own latency budget."""
    budget = policies[0].budget if policies else Budget()
    asked = {policy.name for policy in policies}
    found = []
    for name in BASELINES:
        if name not in asked:
            schema, _ = parse_policy(name, Path(name))
            found.append(replace(schema.build(name, signal), budget=budget))
    return tuple(found)


def _chosen(schema: ScenarioSchema, policies: Sequence[str]) -> tuple[list[Any], str]:
    if policies:
        return [str(Path(p).resolve()) if _is_path(p) else p for p in policies], "--policy"
    if schema.policies is not None:
        return list(schema.policies), "policies"
    return [schema.policy if schema.policy is not None else "carbon-first"], "policy"


def _is_path(policy: str) -> bool:
    return policy.endswith((".yaml", ".yml")) or "/" in policy


def _policy(chosen: Any, key: str, place: int, file: Path) -> tuple[PolicySchema, str]:
    where = key if key == "policy" else f"{key}[{place}]"
    if not isinstance(chosen, str | dict):
        text = "give a shipped policy's name, a path ending in .yaml, or a mapping"
        raise ConfigError(str(file), [(where, text)])
    try:
        return parse_policy(chosen, file)
    except ConfigError as error:
        problems = [
            (where + inner.removeprefix("policy"), text)
            if error.file == str(file)
            else (where, f"{error.file}: {inner}: {text}" if inner else f"{error.file}: {text}")
            for inner, text in error.problems
        ]
        raise ConfigError(str(file), problems) from error


def _expand(
    entries: Sequence[ReplicasSchema],
) -> tuple[list[EndpointSchema], list[int], dict[str, tuple[str, ...]]]:
    """Endpoints one by one; the entry that each came from; names by entry."""
    endpoints: list[EndpointSchema] = []
    places: list[int] = []
    replicas: dict[str, tuple[str, ...]] = {}
    for place, entry in enumerate(entries):
        names = []
        for name, region in _replicas(entry):
            # Nothing is ever connected to; the configuration wants addresses that differ.
            address = f"replica-{len(endpoints)}.simulated:1"
            endpoints.append(
                EndpointSchema(
                    name=name,
                    region=region,
                    address=address,
                    models=entry.models,
                    max_in_flight=entry.max_in_flight,
                    emulated=True,
                )
            )
            places.append(place)
            names.append(name)
        replicas[entry.name] = (*replicas.get(entry.name, ()), *names)
    return endpoints, places, replicas


def _replicas(entry: ReplicasSchema) -> list[tuple[str, str]]:
    """(name, region) of each."""
    if isinstance(entry.replicas, dict):
        return [
            (f"{entry.name}-{region}-{number}", region)
            for region, count in entry.replicas.items()
            for number in range(count)
        ]
    region = entry.region or ""
    if entry.replicas is None:
        return [(entry.name, region)]
    return [(f"{entry.name}-{number}", region) for number in range(entry.replicas)]


def _by_entry(notes: Sequence[str], replicas: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Notes on replicas as notes on their entry, once."""
    entry_of = {name: entry for entry, names in replicas.items() for name in names}
    found = []
    for note in notes:
        name, colon, text = note.partition(": ")
        found.append(f"{entry_of.get(name, name)}{colon}{text}")
    return tuple(dict.fromkeys(found))


def _config(
    schema: ScenarioSchema, file: Path, endpoints: Sequence[EndpointSchema]
) -> ConfigSchema:
    # As the file that grams are counted from would be named to `serve`.
    grid = schema.carbon
    trace = TraceSchema(kind="trace", file=grid.file, hour_ending=grid.hour_ending)
    carbon = {"basis": grid.basis, "factors": grid.factors, "sources": [trace]}
    return _valid(
        ConfigSchema,
        file,
        version=1,
        carbon=_valid(CarbonSchema, file, **carbon),
        health=schema.health,
        network=schema.network,
        origins={**_diagonal(schema, file), **schema.origins},
        rtt=schema.rtt,
        default_origin=schema.default_origin,
        regions=schema.regions,
        models=schema.models,
        aliases=schema.aliases,
        endpoints=list(endpoints),
        profiles=schema.profiles,
    )


def _valid(model: type[_Model], file: Path, **values: Any) -> _Model:
    try:
        return model(**values)
    except ValidationError as error:
        raise ConfigError(str(file), from_validation(error, model, values)) from error


def _diagonal(schema: ScenarioSchema, file: Path) -> dict[str, OriginSchema]:
    """Round trips inside a region, where the table has a blank and the scenario states them."""
    rtt = schema.rtt
    if rtt is None or rtt.within_region_ms is None:
        return {}
    try:
        with (file.parent / rtt.file).open(encoding="utf-8-sig", newline="") as text:
            rows = [[cell.strip() for cell in row] for row in csv.reader(text) if row]
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}  # `rtt_matrix` says what is wrong with it.
    header = rows[0] if rows else []
    blank = {
        row[0]
        for row in rows[1:]
        if len(row) == len(header) and row[0] in header[1:] and not row[header.index(row[0])]
    }
    wanted = blank if rtt.origins is None else blank & set(rtt.origins)
    found: dict[str, dict[str, float]] = {}
    for region in schema.regions:
        row = rtt.columns.get(region, region)
        if row in wanted and not (row in schema.origins and region in schema.origins[row].rtt_ms):
            found.setdefault(row, {})[region] = rtt.within_region_ms
    for origin, row_ms in found.items():
        if origin in schema.origins:
            row_ms.update(schema.origins[origin].rtt_ms)
    return {origin: OriginSchema(rtt_ms=row_ms) for origin, row_ms in found.items()}


def _renamed(problem: Problem, places: Sequence[int], policy_key: str) -> Problem:
    """A problem of the configuration under the key that the scenario has for it."""
    key, text = problem

    def entry(found: re.Match[str]) -> str:
        place = int(found[1])
        return f"endpoints[{places[place]}]" if place < len(places) else found[0]

    key = _ENDPOINT.sub(entry, key).replace("carbon.sources[0].file", "carbon.file")
    if key.startswith("policy") and policy_key != "policy":
        key = f"{policy_key}[0]{key.removeprefix('policy')}"
    return key, _ENDPOINT.sub(entry, text)


def _of_table(problem: Problem, schema: ScenarioSchema) -> Problem:
    """A blank cell of the table of round-trip times has other remedies than one of `origins`."""
    key, text = problem
    found = _RTT_OF.fullmatch(key)
    if schema.rtt is None or found is None or found[1] in schema.origins:
        return problem
    fix = f"{text}; or let rtt.origins name the rows of {schema.rtt.file} that are wanted"
    if schema.rtt.within_region_ms is None and found[1] in schema.regions:
        fix += ", and rtt.within_region_ms stand for a blank diagonal"
    return key, fix

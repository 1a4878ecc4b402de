"""A scenario file -> the `Simulation` that engine, bound and tuner read.

``load(path)`` is all that callers need. Reads the files that the scenario names, relative to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from router.carbon.tables.table import TraceTable, read_table
from router.config.document import parse
from router.config.problems import Problem, from_validation, unknown
from router.errors import ConfigError
from router.lab.sim.grid import actual as grid
from router.lab.sim.scenario.assemble import Assembled, assemble
from router.lab.sim.scenario.knowledge import grid_signal
from router.lab.sim.scenario.schema import FailureSchema, ScenarioSchema
from router.lab.sim.simulation import (
    Autoscaling,
    Gateways,
    Outage,
    ScaledBy,
    Simulation,
    Workload,
)
from router.lab.sim.traffic.columns import NOT_DEFERRED
from router.lab.sim.traffic.ledger_rows import is_ledger
from router.lab.sim.traffic.resolve import make_workload
from router.lab.sim.traffic.workload_file import FileWorkload
from router.model import Basis, Factors, Fleet, Signal
from router.units import HOUR_S

_YEAR_1980_S = 315532800.0


class Loaded(NamedTuple):
    """A scenario as values. ``notes``: legal, but worth an operator's look; ``notice``: attribution
    that results must carry, "" where none.
    """

    file: Path
    simulation: Simulation
    notes: tuple[str, ...]
    notice: str

    def deferring(self) -> Loaded:
        """Without the note that nothing waits, for who lets what may wait."""
        return self._replace(notes=tuple(one for one in self.notes if NOT_DEFERRED not in one))


def load(
    path: str | Path,
    policies: Sequence[str] = (),
    seed: int | None = None,
    signal_kind: str | None = None,
) -> Loaded:
    """Read and check a scenario and everything it names.

    ``policies``: shipped names or paths (relative to the working folder), instead of the file's.
    ``seed``, ``signal_kind``: instead of the file's.
    Raises ConfigError naming file, key and fix; TraceError naming file, row, column and fix.
    """
    file = Path(path)
    schema = _schema(file)
    _obtained(schema, file)
    if seed is not None:
        schema = schema.model_copy(update={"seed": seed})
    if signal_kind is not None:
        known_by = schema.signal.model_copy(update={"kind": signal_kind})
        schema = schema.model_copy(update={"signal": known_by})
    signal = Signal(Basis(schema.carbon.basis), Factors(schema.carbon.factors))
    assembled = assemble(schema, file, policies, signal)
    if schema.tenants:
        fix = "is not simulated: give the requests of each a residency in the workload"
        raise ConfigError(str(file), [("tenants", fix)])
    if schema.carbon_budget is not None:
        fix = (
            "is not simulated: what would be refused for want of grams would be served here; leave "
            "it out, and compare the grams of a day with it"
        )
        raise ConfigError(str(file), [("carbon_budget", fix)])
    notes = [*assembled.notes, *_unused(schema)]
    known = _grids(schema, file, assembled.fleet, signal, notes)
    table, _ = grid.fill(known, int(schema.carbon.fill // HOUR_S))
    actual = grid.cut(table, schema.start, schema.duration)
    notes += _filled(known, actual)
    workload = _workload(schema, file, assembled.fleet, notes)
    notes += _nowhere(workload, assembled.fleet)
    fleet = _with_origins(assembled.fleet, workload.names.origins)
    if schema.rtt is not None and schema.rtt.reach_ms is not None:
        fleet = _within_reach(fleet, schema.rtt.reach_ms, file)
    simulation = Simulation(
        name=schema.name or file.name.removesuffix(".yaml").removesuffix(".yml"),
        fleet=fleet,
        policies=assembled.policies,
        health=assembled.health,
        start=schema.start,
        duration_s=schema.duration,
        seed=schema.seed,
        workload=workload,
        carbon_signal=signal,
        actual=actual,
        annual_means=grid.annual_means(table, schema.carbon.annual_means, signal),
        signal=grid_signal(schema, file, known, table, signal, notes),
        gateways=Gateways(
            schema.gateways.count,
            schema.gateways.staleness,
            schema.gateways.prefixes,
            schema.gateways.exchange,
        ),
        outages=_outages(schema, file, assembled),
        autoscaling=_autoscaling(schema),
        network_kwh_per_gb=assembled.network_kwh_per_gb,
        warm_up_s=schema.warm_up,
        path_delay_ms=_path_delay_ms(schema, file, assembled.fleet),
        defers=_defers(schema, workload),
    )
    return Loaded(file, simulation, tuple(dict.fromkeys(notes)), schema.notice or "")


def _schema(file: Path) -> ScenarioSchema:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(str(file), [("", "no such file")]) from error
    except (OSError, ValueError) as error:
        raise ConfigError(str(file), [("", f"cannot be read as UTF-8 text: {error}")]) from error
    data: Any = parse(text, str(file))
    if not isinstance(data, dict):
        raise ConfigError(str(file), [("", "write a mapping: start, duration, regions, ...")])
    try:
        return ScenarioSchema.model_validate(data)
    except ValidationError as error:
        raise ConfigError(str(file), from_validation(error, ScenarioSchema, data)) from error


def _obtained(schema: ScenarioSchema, file: Path) -> None:
    """Raises ConfigError for a file of intensities that is to be had elsewhere, and says where."""
    path = file.parent / schema.carbon.file
    if schema.carbon.obtain and not path.is_file():
        text = f"{path} is not there: {schema.carbon.obtain}"
        raise ConfigError(str(file), [("carbon.file", text)])


def _unused(schema: ScenarioSchema) -> list[str]:
    given = [
        key
        for key in (
            "server",
            "load",
            "retry",
            "log",
            "state",
            "ledger",
            "identity",
            "unlisted_tenants",
        )
        if getattr(schema, key) is not None
    ]
    return [f"{key}: not used by a simulation" for key in given]


def _grids(
    schema: ScenarioSchema, file: Path, fleet: Fleet, signal: Signal, notes: list[str]
) -> TraceTable:
    """The hourly columns of the fleet's grid zones, with their gaps."""
    carbon = schema.carbon
    zones = {region.grid_zone: name for name, region in fleet.regions.items()}
    for key, named in (("annual_means", carbon.annual_means), ("columns", carbon.columns)):
        for zone in named:
            if zone not in zones:
                text = unknown("grid zone", zone, zones)
                raise ConfigError(str(file), [(f"carbon.{key}.{zone}", text)])
    columns = {zone: carbon.columns.get(zone, zone) for zone in zones}
    path = file.parent / carbon.file
    table = read_table(path, signal.factors, carbon.hour_ending, columns.values())
    problems: list[Problem] = [
        (
            f"carbon.columns.{zone}" if zone in carbon.columns else f"regions.{zones[zone]}",
            f"{carbon.file} has no such column: {unknown('column', column, table.grid_zones)}",
        )
        for zone, column in columns.items()
        if column not in table.grid_zones
    ]
    if problems:
        raise ConfigError(str(file), problems)
    hourly = grid.hourly(grid.select(table, zones, columns))
    if table.step_s != HOUR_S or table.start % HOUR_S:
        how = "averaged over" if table.step_s <= HOUR_S else "spread over"
        notes.append(f"carbon.file: {how} hours, from steps of {table.step_s:g} s")
    return hourly


def _filled(known: TraceTable, actual: TraceTable) -> list[str]:
    """A note on the hours of the scenario that the file lacks."""
    first = round((actual.start - known.start) / HOUR_S)
    missing = np.isnan(known.g_per_kwh[first : first + len(actual.g_per_kwh)])
    gaps: list[bool] = np.any(missing, axis=0).tolist()
    zones = [zone for zone, gap in zip(known.grid_zones, gaps, strict=True) if gap]
    if not zones:
        return []
    return [
        f"carbon.file: {int(missing.sum())} missing hours of {', '.join(zones)} were filled in "
        "along a line"
    ]


def _workload(schema: ScenarioSchema, file: Path, fleet: Fleet, notes: list[str]) -> Workload:
    wanted = schema.workload
    if wanted.generate is not None:
        if any(one.deadline is not None for one in wanted.generate.classes):
            notes.append(f"workload.generate: deadline is not used: {NOT_DEFERRED}")
        return make_workload(
            wanted.generate, file, fleet, schema.start, schema.duration, schema.seed
        )
    path = file.parent / (wanted.file or "")
    if path.is_dir() and not is_ledger(path):
        text = f"{path}: a folder, and no ledger: it holds no receipts"
        raise ConfigError(str(file), [("workload.file", text)])
    if not path.exists():
        raise ConfigError(str(file), [("workload.file", f"{path}: no such file")])
    origins = None if fleet.default_origin else fleet.rtt_ms
    contexts: dict[str, float] = {}
    for one in (one for endpoint in fleet.endpoints for one in endpoint.models):
        contexts[one.name] = max(contexts.get(one.name, 0.0), one.context_tokens)
    for name in fleet.aliases:
        contexts[name] = max(contexts[model] for model in fleet.models_of(name))
    means = {name: (one.input_tokens, one.output_tokens) for name, one in fleet.priors.items()}
    workload = FileWorkload(
        path,
        schema.duration,
        origins,
        contexts,
        block_tokens=wanted.block_tokens,
        start=schema.start,
        lengths=means,
    )
    notes.extend(workload.notes)
    strange = sorted(set(workload.names.origins) - set(fleet.rtt_ms))
    if strange:
        notes.append(
            f"workload.file: origins without round-trip times are taken for "
            f"{fleet.default_origin!r} (default_origin): "
            f"{', '.join(origin or '(blank)' for origin in strange[:12])}"
        )
    return workload


def _defers(schema: ScenarioSchema, workload: Workload) -> bool:
    if isinstance(workload, FileWorkload):
        return workload.deferrable > 0
    made = schema.workload.generate
    return made is not None and any(one.deadline is not None for one in made.classes)


def _nowhere(workload: Workload, fleet: Fleet) -> list[str]:
    """A note on jurisdictions that no region lies in."""
    known = frozenset().union(*(region.residency for region in fleet.regions.values()))
    asked = frozenset().union(*workload.names.residencies)
    strange = sorted(asked - known)
    if not strange:
        return []
    return [f"workload: no region has residency {', '.join(strange[:12])}"]


def _with_origins(fleet: Fleet, origins: Sequence[str]) -> Fleet:
    """``fleet`` with a row of round-trip times for every origin: the default one's where new."""
    stand_in = {origin: fleet.rtt_ms[fleet.default_origin] for origin in origins
                if origin not in fleet.rtt_ms}  # fmt: skip
    return replace(fleet, rtt_ms={**fleet.rtt_ms, **stand_in}) if stand_in else fleet


def _within_reach(fleet: Fleet, reach_ms: float, file: Path) -> Fleet:
    """The fleet with what is out of reach endlessly far. Raises ConfigError for an origin that
    reaches nothing.
    """
    rtt_ms = {
        origin: {region: ms if ms <= reach_ms else math.inf for region, ms in row.items()}
        for origin, row in fleet.rtt_ms.items()
    }
    for origin, row in rtt_ms.items():
        if all(math.isinf(ms) for ms in row.values()):
            nearest_ms = min(fleet.rtt_ms[origin].values())
            text = f"{reach_ms:g} ms reach no region from {origin}; the nearest is {nearest_ms:g}"
            raise ConfigError(str(file), [("rtt.reach_ms", text)])
    return replace(fleet, rtt_ms=rtt_ms)


def _outages(schema: ScenarioSchema, file: Path, assembled: Assembled) -> tuple[Outage, ...]:
    problems: list[Problem] = []
    outages = []
    for place, failure in enumerate(schema.failures):
        at = f"failures[{place}]"
        names, problem = _down(failure, at, assembled)
        problems += problem
        start_s, end_s = (_since(moment, schema.start) for moment in (failure.start, failure.end))
        if not 0.0 <= start_s < end_s:
            problems.append((f"{at}.end", "must come after its start, which lies in the scenario"))
        elif start_s >= schema.duration:
            problems.append((f"{at}.start", "comes after the end of the scenario"))
        outages.append(Outage(names, start_s, end_s, failure.noticed_after))
    if problems:
        raise ConfigError(str(file), problems)
    return tuple(outages)


def _path_delay_ms(schema: ScenarioSchema, file: Path, fleet: Fleet) -> dict[str, float]:
    given = schema.path_delay_ms
    if isinstance(given, float):
        return dict.fromkeys(fleet.regions, given) if given else {}
    strange = sorted(set(given) - set(fleet.regions))
    if strange:
        problems = [(f"path_delay_ms.{name}", unknown("region", name, fleet.regions))
                    for name in strange]  # fmt: skip
        raise ConfigError(str(file), problems)
    return dict(given)


def _down(
    failure: FailureSchema, at: str, assembled: Assembled
) -> tuple[frozenset[str], list[Problem]]:
    endpoints = assembled.fleet.endpoints
    if failure.region is not None:
        if failure.region not in assembled.fleet.regions:
            text = unknown("region", failure.region, assembled.fleet.regions)
            return frozenset(), [(f"{at}.region", text)]
        return frozenset(e.name for e in endpoints if e.region == failure.region), []
    wanted = failure.endpoint or ""
    known: Mapping[str, tuple[str, ...]] = {
        **{e.name: (e.name,) for e in endpoints},
        **assembled.replicas,
    }
    if wanted not in known:
        return frozenset(), [(f"{at}.endpoint", unknown("endpoint", wanted, known))]
    return frozenset(known[wanted]), []


def _since(moment: float, start: float) -> float:
    """Seconds since the start of a moment given as such, or as a date."""
    return moment - start if moment >= _YEAR_1980_S else moment


def _autoscaling(schema: ScenarioSchema) -> Autoscaling | None:
    wanted = schema.autoscaling
    if wanted is None:
        return None
    return Autoscaling(
        wanted.release_after, wanted.wake, wanted.wake_w, ScaledBy(wanted.by), wanted.asleep_w
    )

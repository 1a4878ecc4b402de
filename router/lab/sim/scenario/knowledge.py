"""A scenario's ``signal`` as a GridSignal: what routers know of the grids while they decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import embedded
from router.carbon.tables.table import TraceTable, read_table
from router.carbon.weather.conditions import WeatherForecast
from router.carbon.weather.table import FORMAT, read_weather
from router.config import format_time
from router.config.problems import unknown
from router.errors import ConfigError
from router.lab.sim.grid import actual as grid
from router.lab.sim.grid.forecasted import Forecasted
from router.lab.sim.grid.signals import DayBefore, Perfect, Persistence, Standing, Tabled
from router.lab.sim.scenario.schema import ScenarioSchema
from router.lab.sim.simulation import GridSignal
from router.model import Signal
from router.units import HOUR_S


def grid_signal(
    schema: ScenarioSchema,
    file: Path,
    known: TraceTable,
    table: TraceTable,
    signal: Signal,
    notes: list[str],
) -> GridSignal:
    """What routers know, by ``schema``; of what is legal but worth a look it adds ``notes``.

    ``known`` has the gaps of the file, which ``table`` has filled: filling one takes the value
    after it, which is not published yet. Raises ConfigError naming the key, TraceError the row.
    """
    wanted = schema.signal
    lag_s = wanted.publication_lag
    if wanted.kind == "perfect":
        if "publication_lag" in wanted.model_fields_set and lag_s:
            notes.append("signal.publication_lag: perfect knowledge has none; not used")
        return Perfect(table, signal)
    usual = Climatology.load()
    standing = Standing(signal, usual, embedded())
    known_from = table.start + HOUR_S + lag_s
    if wanted.kind != "file" and schema.start < known_from:
        notes.append(
            f"signal: nothing is published before {format_time(known_from)}; until then the "
            "shipped climatology or annual mean of a grid zone stands in, where there is one"
        )
    if wanted.kind == "persistence":
        return Persistence(known, signal, lag_s, standing)
    if wanted.kind == "day_before":
        return DayBefore(known, signal, lag_s, standing)
    if wanted.kind == "forecaster":
        weather = _weather(schema, file, known.grid_zones, notes)
        return Forecasted(known, signal, lag_s, standing, usual, wanted.history, weather)
    forecasts = _forecasts(schema, file, table.grid_zones, signal)
    missing, hours = grid.missing(forecasts, schema.start, schema.duration)
    if missing:
        notes.append(
            f"signal.file: no forecast for {missing} of {hours} hours (all grid zones); there "
            "the shipped climatology or annual mean of a zone stands in, where there is one"
        )
    return Tabled(forecasts, signal, lag_s, standing)


def _weather(
    schema: ScenarioSchema, file: Path, grid_zones: Sequence[str], notes: list[str]
) -> Mapping[str, WeatherForecast]:
    """Of the grid zones that the file has. Raises TraceError naming file, row, column and fix."""
    if schema.signal.weather is None:
        return {}
    path = file.parent / schema.signal.weather
    if not path.is_file():
        raise ConfigError(str(file), [("signal.weather", f"{path}: no such file")])
    found = read_weather(path, grid_zones, math.inf)
    first_h, end_h = schema.start / HOUR_S, (schema.start + schema.duration) / HOUR_S
    without = [
        zone
        for zone in grid_zones
        if zone not in found or found[zone].first_h >= end_h or found[zone].end_h <= first_h
    ]
    if len(without) == len(grid_zones):
        text = f"has no hour of the scenario for {', '.join(grid_zones)}; {FORMAT}"
        raise ConfigError(str(file), [("signal.weather", f"{path.name} {text}")])
    if without:
        notes.append(
            f"signal.weather: none of {', '.join(without)} in the scenario's hours; forecast from "
            "the past alone"
        )
    return found


def _forecasts(
    schema: ScenarioSchema, file: Path, grid_zones: Sequence[str], signal: Signal
) -> TraceTable:
    wanted = schema.signal
    path = file.parent / (wanted.file or "")
    if not path.is_file():
        raise ConfigError(str(file), [("signal.file", f"{path}: no such file")])
    columns = {zone: wanted.columns.get(zone, zone) for zone in grid_zones}
    table = read_table(path, signal.factors, wanted.hour_ending, columns.values())
    for column in columns.values():
        if column not in table.grid_zones:
            text = f"has no such column: {unknown('column', column, table.grid_zones)}"
            raise ConfigError(str(file), [("signal.file", f"{wanted.file} {text}")])
    return grid.hourly(grid.select(table, grid_zones, columns))

"""What the keys of ``carbon:`` mean for each other: names, files, signals, clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from router.config.live import LiveSchema
from router.config.problems import Problem, key_path, unknown
from router.config.sources import (
    CarbonSchema,
    ClimatologySchema,
    SourceSchema,
    StaticSchema,
    TraceSchema,
)
from router.config.specs import LIFECYCLE, MARGINAL, source_names
from router.config.weather import WeatherSchema
from router.model import Basis, Factors, Signal

_FORMAT = "format: docs/config.md, Tables of intensity"


def check_carbon(carbon: CarbonSchema, folder: Path, replayed: bool) -> list[Problem]:
    """Sources fit the signal and each other, and their files exist; ``replayed``: not by now."""
    signal = Signal(Basis(carbon.basis), Factors(carbon.factors))
    problems = list(_check_sources(carbon.sources, signal, "carbon.sources", folder, replayed))
    if carbon.marginal is not None:
        at = "carbon.marginal.sources"
        problems += _check_sources(carbon.marginal.sources, MARGINAL, at, folder, replayed)
    known = source_names(carbon.sources)
    for zone, order in carbon.zones.items():
        for index, name in enumerate(order.sources):
            if name not in known:
                at = f"{key_path(['carbon', 'zones', zone, 'sources'])}[{index}]"
                problems.append((at, unknown("source", name, known)))
            elif name in order.sources[:index]:
                at = f"{key_path(['carbon', 'zones', zone, 'sources'])}[{index}]"
                problems.append((at, f"{name!r} is listed twice"))
    if carbon.history is not None and not (folder / carbon.history.file).is_file():
        text = f"{folder / carbon.history.file}: no such file; {_FORMAT}"
        problems.append(("carbon.history.file", text))
    if carbon.weather is not None:
        problems += _check_weather(carbon.weather, folder, replayed)
    return problems


def _check_weather(weather: WeatherSchema, folder: Path, replayed: bool) -> Iterator[Problem]:
    if weather.file is not None and not (folder / weather.file).is_file():
        text = f"{folder / weather.file}: no such file; format: docs/carbon.md, Weather"
        yield "carbon.weather.file", text
    if weather.points and replayed:
        text = "Open-Meteo answers for the real time only, but clock replays another"
        yield "carbon.weather.points", f"{text}; remove clock, or use a file"


def _check_sources(
    sources: Sequence[SourceSchema], signal: Signal, at: str, folder: Path, replayed: bool
) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, (source, name) in enumerate(zip(sources, source_names(sources), strict=True)):
        here = f"{at}[{index}]"
        if first.setdefault(name, index) != index and not isinstance(
            source, ClimatologySchema | StaticSchema
        ):
            text = f"{name!r} is already the name of {at}[{first[name]}]; give it another"
            yield f"{here}.name", text
        if isinstance(source, TraceSchema):
            path = folder / source.file
            if not path.is_file():
                yield f"{here}.file", f"{path}: no such file; {_FORMAT}"
        elif isinstance(source, ClimatologySchema):
            if signal != LIFECYCLE:
                text = "the shipped climatology is average/lifecycle and cannot stand in for "
                yield here, f"{text}{'/'.join(signal)}; remove it"
        elif isinstance(source, StaticSchema):
            yield from _check_static(source, here, signal)
        elif isinstance(source, LiveSchema):
            yield from _check_live(source, here, signal, replayed)


def _check_live(source: LiveSchema, at: str, signal: Signal, replayed: bool) -> Iterator[Problem]:
    kind, own = source.kind, source.published_signal()
    if replayed:
        text = f"{kind} answers for the real time only, but clock replays another"
        yield at, f"{text}; remove clock, or use a trace"
    if own is None and signal.basis is not Basis.AVERAGE:
        text = f"{kind} is an average intensity and cannot be mixed with {'/'.join(signal)}"
        yield at, f"{text}; remove it here"
    elif own is not None and own != signal:
        if own == MARGINAL:
            fix = "move it to carbon.marginal.sources, where it is reported beside"
        elif signal == MARGINAL:
            fix = "remove it here"
        else:
            fix = f"set carbon.factors: {own.factors}, or remove it"
        yield at, f"{kind} is {'/'.join(own)}, but the sources here are {'/'.join(signal)}; {fix}"


def _check_static(source: StaticSchema, at: str, signal: Signal) -> Iterator[Problem]:
    lifecycle = signal == LIFECYCLE
    if not lifecycle and not source.g_per_kwh:
        yield at, "the shipped annual means are average/lifecycle; give your own g_per_kwh here"
    for zone, value in source.g_per_kwh.items():
        if lifecycle and value == 0.0:
            text = "0 g/kWh lifecycle does not exist; give the annual mean or remove the grid zone"
            yield f"{at}.{key_path(['g_per_kwh', zone])}", text

"""``carbon:`` of the file -> `CarbonSettings`: names given, paths resolved, ids looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from router.config.live import LiveSchema
from router.config.settings import (
    CarbonSettings,
    ClimatologySpec,
    HistorySpec,
    LiveSpec,
    SecretSpec,
    SourceSpec,
    StaticSpec,
    TraceSpec,
    WeatherSpec,
)
from router.config.sources import (
    CarbonSchema,
    ClimatologySchema,
    SourceSchema,
    StaticSchema,
    TraceSchema,
)
from router.config.weather import WeatherSchema
from router.config.zones import shipped_places
from router.model import Basis, Factors, Kind, Signal

LIFECYCLE: Final = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
MARGINAL: Final = Signal(Basis.MARGINAL, Factors.NONE)


def carbon_settings(
    carbon: CarbonSchema, folder: Path, coordinates: Mapping[str, tuple[float, float]]
) -> CarbonSettings:
    """The settings of a checked ``carbon``; relative paths start at ``folder``."""
    signal = Signal(Basis(carbon.basis), Factors(carbon.factors))
    marginal = carbon.marginal.sources if carbon.marginal else []
    history = carbon.history
    return CarbonSettings(
        signal=signal,
        refresh_s=carbon.refresh_s,
        sources=_specs(carbon.sources, signal, folder, "carbon.sources"),
        orders={zone: tuple(order.sources) for zone, order in carbon.zones.items()},
        marginal=_specs(marginal, MARGINAL, folder, "carbon.marginal.sources"),
        history=HistorySpec(folder / history.file, history.hour_ending) if history else None,
        weather=_weather(carbon.weather, folder) if carbon.weather else None,
        coordinates=dict(coordinates),
    )


def source_names(sources: Sequence[SourceSchema]) -> list[str]:
    """The name of each source: its own, else its kind (``trace-2`` for a second trace)."""
    names: list[str] = []
    for source in sources:
        same = sum(other.kind == source.kind for other in sources[: len(names)])
        own = source.name if isinstance(source, TraceSchema | LiveSchema) else None
        if isinstance(source, TraceSchema) and own is None and same:
            names.append(f"{source.kind}-{same + 1}")
        else:
            names.append(own or source.kind)
    return names


def _specs(
    sources: Sequence[SourceSchema], signal: Signal, folder: Path, at: str
) -> tuple[SourceSpec, ...]:
    names = source_names(sources)
    return tuple(
        _spec(source, name, signal, folder, f"{at}[{index}]")
        for index, (source, name) in enumerate(zip(sources, names, strict=True))
    )


def _spec(source: SourceSchema, name: str, signal: Signal, folder: Path, at: str) -> SourceSpec:
    if isinstance(source, TraceSchema):
        return TraceSpec(
            file=folder / source.file,
            kind=Kind(source.value_kind),
            lag_s=source.lag_s,
            hour_ending=source.hour_ending,
            name=name,
        )
    if isinstance(source, ClimatologySchema):
        return ClimatologySpec()
    if isinstance(source, StaticSchema):
        return StaticSpec(dict(source.g_per_kwh), signal == LIFECYCLE)
    assert isinstance(source, LiveSchema)
    return _live(source, name, signal, folder, at)


def _live(source: LiveSchema, name: str, signal: Signal, folder: Path, at: str) -> LiveSpec:
    return LiveSpec(
        # By what it says, not how: an edit that changes nothing builds no provider anew.
        schema=source.model_copy(
            update={"roles": sorted(set(source.roles), reverse=True), "zones": {}}
        ),
        name=name,
        at=at,
        signal=source.published_signal() or signal,
        zones={
            **shipped_places().ids(source.kind),
            **source.zone_ids,
            **{zone: str(own) for zone, own in source.zones.items()},
        },
        secrets={stem: _secret(source, stem, folder) for stem in source.credentials},
    )


def _weather(weather: WeatherSchema, folder: Path) -> WeatherSpec:
    key_file = folder / weather.key_file if weather.key_file else None
    has_key = weather.key_env is not None or key_file is not None
    return WeatherSpec(
        schema=weather,
        file=folder / weather.file if weather.file else None,
        key=SecretSpec(weather.key_env or "", key_file) if has_key else None,
    )


def _secret(source: LiveSchema, stem: str, folder: Path) -> SecretSpec:
    env, file = getattr(source, f"{stem}_env"), getattr(source, f"{stem}_file")
    return SecretSpec(env or "", folder / file if file else None)

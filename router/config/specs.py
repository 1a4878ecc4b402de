"""``carbon:`` of the file -> `CarbonSettings`: names given, paths resolved, ids looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from router.config.providers import (
    ElectricityMapsSchema,
    EnergyChartsSchema,
    GreatBritainSchema,
    LiveSourceSchema,
    WattTimeSchema,
)
from router.config.settings import (
    CarbonSettings,
    ClimatologySpec,
    HistorySpec,
    LimitSpec,
    LiveSpec,
    SecretSpec,
    SourceSpec,
    StaticSpec,
    TraceSpec,
)
from router.config.sources import (
    CarbonSchema,
    ClimatologySchema,
    SourceSchema,
    StaticSchema,
    TraceSchema,
)
from router.config.zones import Places, shipped_places
from router.model import Basis, Factors, Kind, Signal

LIFECYCLE: Final = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
DIRECT: Final = Signal(Basis.AVERAGE, Factors.DIRECT)
MARGINAL: Final = Signal(Basis.MARGINAL, Factors.NONE)

# What a provider publishes whatever it is asked for.
FIXED_SIGNALS: Final[Mapping[str, Signal]] = {
    "watttime": MARGINAL,
    "gb_carbon_intensity": DIRECT,
}


# Kinds that observe and publish nothing ahead.
NO_FORECAST: Final = frozenset({"eia", "entsoe"})


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
        coordinates=dict(coordinates),
    )


def published_signal(source: LiveSourceSchema) -> Signal | None:
    """What ``source`` publishes; None where it follows `carbon.factors`."""
    if isinstance(source, EnergyChartsSchema):
        return Signal(Basis.AVERAGE, Factors(source.factors))
    return FIXED_SIGNALS.get(source.kind)


def source_names(sources: Sequence[SourceSchema]) -> list[str]:
    """The name of each source: its own, else its kind (``trace-2`` for a second trace)."""
    names: list[str] = []
    for source in sources:
        same = sum(other.kind == source.kind for other in sources[: len(names)])
        if isinstance(source, ClimatologySchema | StaticSchema):
            names.append(source.kind)
        elif isinstance(source, TraceSchema) and source.name is None and same:
            names.append(f"{source.kind}-{same + 1}")
        else:
            names.append(source.name or source.kind)
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
    return _live(source, name, signal, folder, at)


def _live(source: LiveSourceSchema, name: str, signal: Signal, folder: Path, at: str) -> LiveSpec:
    return LiveSpec(
        kind=source.kind,
        name=name,
        at=at,
        signal=published_signal(source) or signal,
        base_url=source.base_url,
        api=source.api if isinstance(source, ElectricityMapsSchema) else "",
        timeout_s=source.timeout_ms / 1e3,
        forecast_refresh_s=source.forecast_refresh_s,
        limits=tuple(LimitSpec(limit.calls, limit.per_s) for limit in source.limits),
        roles=frozenset(source.roles),
        zones={
            **shipped_ids(source.kind, shipped_places()),
            **{zone: str(own) for zone, own in source.zones.items()},
        },
        secrets=_secrets(source, folder),
    )


def shipped_ids(kind: str, places: Places) -> dict[str, str]:
    """Grid zone to the id that a provider of ``kind`` has for it, from the shipped table."""
    return {name: zone.ids[kind] for name, zone in places.zones.items() if kind in zone.ids}


def _secrets(source: LiveSourceSchema, folder: Path) -> dict[str, SecretSpec]:
    if isinstance(source, GreatBritainSchema | EnergyChartsSchema):
        return {}
    if isinstance(source, WattTimeSchema):
        return {
            "user": _secret(source.user_env, source.user_file, folder),
            "password": _secret(source.password_env, source.password_file, folder),
        }
    return {"key": _secret(source.key_env, source.key_file, folder)}


def _secret(env: str | None, file: str | None, folder: Path) -> SecretSpec:
    return SecretSpec(env or "", folder / file if file else None)

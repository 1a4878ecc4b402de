"""Configuration -> carbon chains: tables here, live providers in `.live`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from router.app.carbon.chains import CarbonChains, ConfiguredSource, Source
from router.app.carbon.live import ProviderDeps, fingerprint, live_source, patience_s, schema_of
from router.app.carbon.weather import take_file, weather_sources
from router.carbon.chain.chain import CarbonChain, SourceOrder
from router.carbon.chain.combine import Combiner
from router.carbon.forecast import Nowcast
from router.carbon.polling.source import PolledSource
from router.carbon.tables.climatology import Climatology, parse
from router.carbon.tables.history import warm
from router.carbon.tables.static import StaticSource
from router.carbon.tables.table import read_table
from router.carbon.tables.trace import TraceSource
from router.carbon.tables.zones import means_of_parts, profiles_of_parts
from router.config.settings import (
    CarbonSettings,
    ClimatologySpec,
    Config,
    LiveSpec,
    SourceSpec,
    StaticSpec,
    TraceSpec,
)
from router.config.suggestions import meant
from router.config.zones import shipped_places
from router.errors import ConfigError, DataError
from router.model import Basis, Factors, Fleet, Signal

_MARGINAL = Signal(Basis.MARGINAL, Factors.NONE)
# What the forecaster is given of a history at the start: a season, at a millisecond an hour and
# grid zone.
_WARM_H = 90 * 24


def configured_carbon(
    config: Config, now: float, deps: ProviderDeps | None = None, before: CarbonChains | None = None
) -> CarbonChains:
    """The chains of ``config`` for its fleet, in which some source knows every grid zone.

    ``before``: those of the configuration before a reload. A live provider that did not change
    stays as it is, with what it knows, its waits and its count of calls.

    Raises TraceError, and ConfigError naming the file and every problem: keys that are missing,
    ids that no provider has, grid zones that nobody knows.
    """
    settings, zones = config.settings.carbon, grid_zones(config.fleet)
    try:
        carbon = build_carbon(settings, now, deps, zones, before)
    except ConfigError as error:
        if error.file != "carbon":
            raise
        raise ConfigError(str(config.file), error.problems) from None
    require_coverage(config, carbon)
    return carbon


def build_carbon(
    settings: CarbonSettings,
    now: float,
    deps: ProviderDeps | None = None,
    zones: Sequence[str] = (),
    before: CarbonChains | None = None,
) -> CarbonChains:
    """Sources in the operator's order. Raises TraceError, ConfigError, MixedBasisError.

    ``deps``: needed by live providers. ``zones``: those in use; each is asked only of sources
    that know it.
    """
    builder = _Builder(settings, now, deps, zones, before)
    members = builder.members(settings.sources, settings.signal)
    marginal_members = builder.members(settings.marginal, _MARGINAL)
    if builder.problems:
        raise ConfigError("carbon", builder.problems)
    annual = builder.annual
    if annual is None:
        # Annual means are what a static policy decides by, whether or not they are a fallback.
        annual = _static(settings.signal, {}, now)
    forecaster = _forecaster(settings, builder.climatology, zones, now, before)
    weather = weather_sources(settings.weather, forecaster, zones, deps)
    live = any(isinstance(member.spec, LiveSpec) for member in members)
    orders = _orders(members, zones, settings.orders)
    chain = CarbonChain(
        [member.source for member in members],
        forecaster,
        annual,
        orders=orders,
        combiner=Combiner() if live else None,
    )
    if before is not None:
        chain.restore(chain.restorable(before.chain.learned(), zones))
    if not marginal_members:
        return CarbonChains(
            chain, members, orders, forecaster=forecaster, history=settings.history, weather=weather
        )
    beside = _orders(marginal_members, zones, {})
    marginal = CarbonChain([m.source for m in marginal_members], Nowcast(), orders=beside)
    return CarbonChains(
        chain, members, orders, marginal, marginal_members, beside, forecaster, settings.history,
        weather,
    )  # fmt: skip


def _forecaster(
    settings: CarbonSettings,
    prior: Climatology | None,
    zones: Sequence[str],
    now: float,
    before: CarbonChains | None,
) -> Nowcast:
    """The forecaster ``before``, where what it learned still holds; else one with the history."""
    history, signal = settings.history, settings.signal
    forecaster, new = Nowcast(prior), list(zones)
    if (
        before is not None
        and before.forecaster is not None
        and (before.history, before.chain.signal) == (history, signal)
        # A trace may have another content under the same name.
        and not any(isinstance(spec, TraceSpec) for spec in settings.sources)
        and not any(isinstance(member.spec, TraceSpec) for member in before.members)
    ):
        forecaster = before.forecaster
        new = [zone for zone in zones if zone not in before.orders]
    if history is not None and new:
        if settings.weather is not None:
            take_file(settings.weather, forecaster, new)
        table = read_table(history.file, signal.factors, history.hour_ending, new)
        warm(forecaster, table, signal, new, now, _WARM_H)
    return forecaster


class _Builder:
    """Builds sources; collects what is wrong with the live ones, to tell all of it at once."""

    def __init__(
        self,
        settings: CarbonSettings,
        now: float,
        deps: ProviderDeps | None,
        zones: Sequence[str],
        before: CarbonChains | None,
    ) -> None:
        self.climatology: Climatology | None = None
        self.annual: StaticSource | None = None
        self.problems: list[tuple[str, str]] = []
        self._settings = settings
        self._now = now
        self._deps = deps
        self._zones = zones
        self._before = before.all_members if before else ()

    def members(self, specs: Iterable[SourceSpec], signal: Signal) -> tuple[ConfiguredSource, ...]:
        found = []
        for spec in specs:
            if isinstance(spec, LiveSpec):
                found += self._live(spec)
            else:
                found.append(ConfiguredSource(spec.name, self._source(spec, signal), spec))
        return tuple(found)

    def _live(self, spec: LiveSpec) -> list[ConfiguredSource]:
        """One member, or none and a problem noted."""
        if self._deps is None:
            raise DataError(f"{spec.name} is a live provider: it needs a network")
        keys, patience = fingerprint(spec, self._deps), patience_s(self._settings.refresh_s)
        for member in self._before:
            # A provider that is asked by coordinates may have to be asked about other ones.
            same = (member.spec, member.keys) == (spec, keys) and not schema_of(spec).by_location
            if same and _patience_s(member.source) in (0.0, patience):
                return [member]
        try:
            source, provider = live_source(spec, self._deps, self._settings.coordinates, patience)
        except ConfigError as error:
            self.problems += error.problems
            return []
        return [ConfiguredSource(spec.name, source, spec, keys, provider)]

    def _source(self, spec: TraceSpec | ClimatologySpec | StaticSpec, signal: Signal) -> Source:
        if isinstance(spec, TraceSpec):
            return TraceSource.load(
                spec.file,
                signal=signal,
                kind=spec.kind,
                lag_s=spec.lag_s,
                hour_ending=spec.hour_ending,
                only=self._zones or None,
            )
        if isinstance(spec, ClimatologySpec):
            self.climatology = shipped_climatology()
            return self.climatology
        static = _static(signal, spec.g_per_kwh, self._now)
        if signal == self._settings.signal:
            self.annual = static
        return static


def _patience_s(source: Source) -> float:
    return source.patience_s if isinstance(source, PolledSource) else 0.0


def shipped_climatology() -> Climatology:
    """The embedded climatology, with stand-ins for parts of the zones that it has."""
    name = "climatology.csv"
    lines = resources.files("router.data").joinpath(name).read_text("utf-8").splitlines()
    return Climatology(profiles_of_parts(parse(lines, name), shipped_places()))


def _static(signal: Signal, g_per_kwh: Mapping[str, float], now: float) -> StaticSource:
    stated = StaticSource.load(signal, g_per_kwh, now)
    means = {zone: stated.mean(zone) for zone in stated.grid_zones}
    known = {zone: mean for zone, mean in means.items() if mean is not None}
    return StaticSource(signal, means_of_parts(known, shipped_places()))


def _orders(
    members: Sequence[ConfiguredSource], zones: Sequence[str], own: Mapping[str, Sequence[str]]
) -> dict[str, SourceOrder]:
    """Who knows each of ``zones``, in the zone's own order or in that of the file."""
    orders = {}
    for zone in zones:
        wanted = own.get(zone)
        rank = {name: place for place, name in enumerate(wanted or ())}
        ranked = [m for m in members if wanted is None or m.name in rank]
        ranked.sort(key=lambda m: rank.get(m.name, 0))
        knowing = [m for m in ranked if zone in m.source.grid_zones]
        orders[zone] = SourceOrder(
            tuple(m.source.name for m in knowing),
            tuple(m.source.name for m in knowing if m.publishes),
        )
    return orders


def grid_zones(fleet: Fleet) -> list[str]:
    """The grid zones that the fleet's regions lie in."""
    return sorted({region.grid_zone for region in fleet.regions.values()})


def coverage(sources: Sequence[Source], zones: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Per grid zone, the names of the sources that have figures for it, in order."""
    return {
        zone: tuple(source.name for source in sources if zone in source.grid_zones)
        for zone in zones
    }


def require_coverage(config: Config, carbon: CarbonChains) -> None:
    """Raises ConfigError naming every region whose grid zone no source that is asked knows."""
    problems = [
        (f"regions.{region.name}.grid_zone", _unknown(region.grid_zone, carbon, config))
        for region in config.fleet.regions.values()
        if not any(carbon.orders[region.grid_zone])
    ]
    if problems:
        raise ConfigError(str(config.file), problems)


def _unknown(zone: str, carbon: CarbonChains, config: Config) -> str:
    order = config.settings.carbon.orders.get(zone)
    among = f" among {', '.join(order)} (carbon.zones.{zone}.sources)" if order else ""
    columns = (z for member in carbon.members for z in member.source.grid_zones)
    places = shipped_places()
    hint = "" if zone in places.zones else f"{meant(zone, places, columns)}; "
    text = f"no carbon source{among} knows {zone!r}; {hint}"
    live = [m.spec for m in carbon.members if isinstance(m.spec, LiveSpec)]
    if live:
        keys = " or ".join(f"{spec.at}.zones.{zone} ({spec.schema.kind})" for spec in live)
        text += f"give a provider's own id for it at {keys}; or "
    return (
        f"{text}add a trace with that column, or its annual mean under a static source's g_per_kwh"
    )

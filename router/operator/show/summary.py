"""``carbon-router check``: what a configuration does, at a glance."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.app.carbon.live import wants
from router.carbon.providers.provider import Want
from router.config import (
    CarbonSettings,
    ClimatologySpec,
    Config,
    LiveSpec,
    SourceSpec,
    TraceSpec,
    format_time,
)
from router.config.calibrated import MOST_ENDPOINTS
from router.config.discovery_settings import DiscoverySettings
from router.config.ledger import LedgerSettings
from router.config.settings import (
    BudgetScope,
    OnExhausted,
    RedisSettings,
    RedisTopology,
    WeatherSpec,
)
from router.model import Fleet, Policy
from router.operator.grants import identity_line
from router.operator.show.waiting_summary import alias_lines, deferral_line, scaling_line
from router.units import UG_PER_G


def render_summary(config: Config, notes: Sequence[str]) -> RenderableType:
    """Regions, models, policy and carbon sources of ``config``, then ``notes``, deduplicated."""
    parts: list[RenderableType] = [
        Text(f"{config.file}: valid", style="bold green"),
        _regions(config.fleet),
        _models(config.fleet),
        *alias_lines(config),
        *_discovery_lines(config),
        policy_line(config.policy),
        *_residency_lines(config),
        *_budget_lines(config),
        *_free_line(config.free),
        carbon_lines(config.settings.carbon),
        Text(identity_line(config)),
    ]
    clock = config.settings.clock
    if clock is not None:
        text = f"clock: replays carbon data from {format_time(clock.start)} at {clock.speed:g}x"
        parts.append(Text(text))
    if config.settings.state.redis is not None:
        parts.append(_shared_line(config.settings.state.redis))
    if config.settings.ledger is not None:
        parts.append(_ledger_line(config.settings.ledger))
    parts += deferral_line(config)
    parts += scaling_line(config)
    parts += _calibration_lines(config)
    parts += [Text(f"note: {note}", style="yellow") for note in dict.fromkeys(notes)]
    return Group(*parts)


def _discovery_lines(config: Config) -> list[Text]:
    """What will be found where, and what is taken of it."""
    return [_discovery_line(place) for place in config.settings.discovery]


def _discovery_line(place: DiscoverySettings) -> Text:
    each = place.template
    models = ", ".join(one.name for one in each.models)
    where = ", ".join(
        [
            *(f"{label} is {region}" for label, region in sorted(place.regions.items())),
            f"else in {place.region}" if place.region else "who names no region is left out",
        ]
    )
    reached = "over TLS" if place.access.tls else "in plaintext"
    key = " with a key" if place.access.credentials else ""
    inside = f", within {', '.join(map(str, place.networks))}" if place.networks else ""
    return Text(
        f"discovery {place.name}: {place.place}; at most {place.max_endpoints}{inside}, each "
        f"serves {models} by {each.protocol} {reached}{key}, {each.max_in_flight} in flight"
        f"{', emulated' if each.emulated else ''}; {where}"
    )


def _shared_line(redis: RedisSettings) -> Text:
    """What gateways share, without a secret."""
    address = redis.address
    where = f"unix://{address.path}"
    if address.hosts:
        hosts = ", ".join(f"{host}:{port}" for host, port in address.hosts)
        where = f"{hosts}{f' ({address.service})' if address.service else ''}"
    kind = "" if address.topology is RedisTopology.STANDALONE else f"{address.topology}, "
    user = redis.username or "default"
    login = f"as {user} with a password" if redis.password else "without a password"
    return Text(
        f"shared with other gateways: Redis at {where}, database {address.database}, {kind}"
        f"{'TLS' if address.tls else 'no TLS'}, {login}; the fleet is {redis.prefix!r}; "
        f"{redis.timeout_s * 1e3:g} ms a call"
    )


def _calibration_lines(config: Config) -> list[Text]:
    """Whose profiles are fitted to their meters, and what becomes of that."""
    asked = [e.name for e in config.fleet.endpoints if e.meter and e.meter.calibration]
    if not asked:
        return []
    found, rest = asked[:MOST_ENDPOINTS], len(asked) - MOST_ENDPOINTS
    state = config.settings.state
    kept = "forgotten at the end: set state.file to keep them"
    if state.redis is not None:
        kept = "kept in state.redis"
    elif state.file is not None:
        kept = f"kept in {state.file}.profiles"
    more = f"; {rest} more ask for it, and {MOST_ENDPOINTS} are calibrated" if rest > 0 else ""
    return [
        Text(
            f"calibrated as they run: {', '.join(found[:_SHOWN])}"
            f"{', ...' if len(found) > _SHOWN else ''}{more}; {kept}"
        )
    ]


def _ledger_line(ledger: LedgerSettings) -> Text:
    """Where what every request emitted is kept."""
    where = str(ledger.dir)
    if ledger.url is not None:
        where = f"{ledger.url}, by way of {ledger.dir}"
    how = {"hash": "hashed", "plain": "as they are", "omit": "left out"}[ledger.tenant]
    return Text(
        f"ledger: {where}, as {ledger.name!r}; tenants {how}; on the disk within "
        f"{ledger.flush_s:g} s, in a file within {ledger.seal_s:g} s or {ledger.seal_rows} rows"
    )


def _regions(fleet: Fleet) -> Table:
    table = Table(title="Regions", title_justify="left")
    for column in ("region", "grid zone"):
        table.add_column(column)
    for column in ("PUE", "endpoints", "in flight, at most", "RTT, ms"):
        table.add_column(column, justify="right")
    table.add_column("residency")
    for region in fleet.regions.values():
        endpoints = [endpoint for endpoint in fleet.endpoints if endpoint.region == region.name]
        rtts = [row[region.name] for row in fleet.rtt_ms.values()]
        table.add_row(
            region.name,
            region.grid_zone,
            f"{region.pue:.2f}",
            str(len(endpoints)),
            str(sum(endpoint.max_in_flight for endpoint in endpoints)),
            f"{min(rtts):.0f}-{max(rtts):.0f}" if len(rtts) > 1 else f"{rtts[0]:.0f}",
            ", ".join(sorted(region.residency)) or "none stated",
        )
    return table


def _models(fleet: Fleet) -> Table:
    table = Table(title="Models", title_justify="left")
    for column in ("model", "profile", "figures"):
        table.add_column(column)
    for column in ("endpoints", "regions"):
        table.add_column(column, justify="right")
    served: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for endpoint in fleet.endpoints:
        for model in endpoint.models:
            kind = endpoint.provenance_of(model.profile)
            served[model.name, model.profile.name, kind.value].append(endpoint.region)
    for (model_name, profile, figures), regions in sorted(served.items()):
        table.add_row(model_name, profile, figures, str(len(regions)), str(len(set(regions))))
    return table


def policy_line(policy: Policy) -> Text:
    """The policy in one line: weights, budgets, fallback."""
    weights = ", ".join(f"{k} {v:g}" for k, v in policy.weights._asdict().items() if v)
    limits = {
        "TTFT": policy.budget.ttft_ms,
        "TPOT": policy.budget.tpot_ms,
        "end-to-end": policy.budget.e2e_ms,
    }
    budgets = [f"{name} {ms:g} ms" for name, ms in limits.items() if math.isfinite(ms)]
    if math.isfinite(policy.max_gco2e):
        budgets.append(f"{policy.max_gco2e:g} g a request")
    if math.isfinite(policy.max_g_per_kwh):
        budgets.append(f"{policy.max_g_per_kwh:g} g/kWh")
    at = f"at p{policy.quantile * 100:g}, per token at p{policy.tpot_quantile * 100:g}"
    held = f"{', '.join(budgets)} {at}" if budgets else "the caller's only"
    ladder = ", ".join(policy.ladder) or "nothing, refuse"
    return Text(
        f"policy: {policy.name} ({weights}; {policy.spread} within {policy.near_tie * 100:g}%); "
        f"budgets: {held}; drops when nothing is feasible: {ladder}"
    )


def _residency_lines(config: Config) -> list[Text]:
    """The operator's own limits on where requests may run."""
    rules = config.fleet.residency
    limits = [
        (f"policy {config.policy.name}", config.policy.residency),
        *((f"model {name}", names) for name, names in sorted(rules.models.items())),
        *((f"tenant {name}", names) for name, names in sorted(rules.tenants.items())),
    ]
    limits = [limit for limit in limits if limit[1]]
    if not limits:
        return []
    listed = "; ".join(f"{who}: {', '.join(sorted(names))}" for who, names in limits)
    others = "served" if rules.serves_unlisted else "refused"
    end = f"; requests of other tenants, or of none, are {others}" if rules.tenants else ""
    return [Text(f"residency, held beside x-residency: {listed}{end}")]


_SHOWN: Final = 10
_EXHAUSTED: Mapping[OnExhausted, str] = {
    OnExhausted.SHED: "refused",
    OnExhausted.GREENEST_ONLY: "served where they emit least",
    OnExhausted.VARIANT: "served where they emit least, by any variant that their caller takes",
    OnExhausted.WARN: "served and flagged",
    OnExhausted.DEFER: "made to wait for a greener hour where they can, and refused else",
}


def _budget_lines(config: Config) -> list[Text]:
    """Every carbon budget in words, and who shares it."""
    settings = config.settings
    budgets = settings.carbon_budgets.budgets
    if not budgets:
        return []
    signal = settings.carbon.signal
    lines = [f"carbon budgets, of {signal.basis}/{signal.factors} grams a UTC day:"]
    for budget in budgets:
        each = "" if budget.per is BudgetScope.FLEET else f"each {budget.per}, "
        limit = "no limit" if budget.limit_ug is None else f"{budget.limit_ug / UG_PER_G:g} g"
        own = "".join(
            f", {name} {limit_ug / UG_PER_G:g} g"
            for name, limit_ug in sorted(budget.limits_ug.items())
        )
        then = _EXHAUSTED[budget.on_exhausted]
        shadow = "; in its shadow nothing is done but told" if budget.shadow else ""
        lines.append(f"  {budget.name}: {each}{limit}{own}; then requests are {then}{shadow}")
    lines.append(f"  {_sharing(config)}")
    emulated = sum(endpoint.emulated for endpoint in config.fleet.endpoints)
    if emulated:
        lines.append(
            f"  {emulated} of {len(config.fleet.endpoints)} endpoints are emulated: their grams "
            "count, and nobody emits them"
        )
    return [Text("\n".join(lines))]


def _sharing(config: Config) -> str:
    state = config.settings.state
    kept = f"what is spent outlives a restart, in {state.file}.budget"
    if state.redis is not None:
        return "shared with all gateways of state.redis; divided among them while it is lost"
    if state.file is None:
        kept = "a restart forgets what is spent: set state.file to keep it"
    return f"of this gateway alone (state.redis is not set: others would spend as much); {kept}"


def _free_line(free: Mapping[str, str]) -> list[Text]:
    """What the policy leaves to the tuner; serving does not change it."""
    ranges = ", ".join(f"{name} {limits}" for name, limits in free.items())
    return [Text(f"free for `tune` (not used by serve): {ranges}")] if free else []


def carbon_lines(carbon: CarbonSettings) -> Text:
    """The carbon sources in their order."""
    lines = [
        f"carbon: {carbon.signal.basis} intensity, {carbon.signal.factors} factors, "
        f"read every {carbon.refresh_s:g} s"
    ]
    for number, source in enumerate(carbon.sources, start=1):
        lines.append(f"  {number}. {_source(source)}")
    for zone, order in carbon.orders.items():
        lines.append(f"  for {zone}: {', then '.join(order)}")
    for number, source in enumerate(carbon.marginal, start=1):
        lines.append(f"  marginal, beside: {number}. {_source(source)}")
    if carbon.history is not None:
        lines.append(f"  the forecaster starts with {carbon.history.file}")
    if carbon.weather is not None:
        lines.append(f"  the forecaster heeds weather: {_weather(carbon.weather)}")
    return Text("\n".join(lines))


def _weather(spec: WeatherSpec) -> str:
    points, every = spec.schema.points, f"every {spec.schema.refresh_s:g} s"
    parts = [f"{spec.file}, read {every}"] if spec.file is not None else []
    if points:
        count = sum(map(len, points.values()))
        parts.append(f"{spec.schema.base_url}, {count} points of {len(points)} grid zones {every}")
    return "; ".join(parts)


def _source(source: SourceSpec) -> str:
    if isinstance(source, TraceSpec):
        lag = f", known {source.lag_s:g} s after each slot" if source.lag_s else ""
        return f"trace {source.file}: {source.kind} values{lag}"
    if isinstance(source, ClimatologySpec):
        return "climatology: month-by-hour means that ship with the package"
    if isinstance(source, LiveSpec):
        names = {Want.LATEST: "measured", Want.FORECAST: "forecast"}
        asked = [name for want, name in names.items() if want in wants(source)]
        roles = " and ".join(asked) or "nothing"
        return f"{source.name}: live ({roles}), {'/'.join(source.signal)}"
    own = ", ".join(sorted(source.g_per_kwh))
    tables = [f"yours for {own}"] if own else []
    if source.shipped_table:
        tables.append("those that ship with the package")
    return f"static: annual means, {' and '.join(tables)}"

"""Live carbon providers: configuration -> providers, on one HTTP session a process.

The session is opened at the first call and outlives reloads, so that nothing of a provider that a
reload took away is left open, and a call of it that is under way ends by itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import aiohttp

from router.carbon.polling.poller import OnDropped, PollTimes
from router.carbon.polling.shared import SharedReadings
from router.carbon.polling.source import PolledSource
from router.carbon.providers.budget import CallAllowance, CallBudget, CallLimit
from router.carbon.providers.http import HttpClient, HttpLimits, OnCall, open_session
from router.carbon.providers.provider import Http, Provider, Want
from router.carbon.providers.proxies import proxy_of
from router.carbon.providers.schema import ProviderSchema
from router.config.live import LimitSchema
from router.config.settings import LiveSpec
from router.config.zones import shipped_places
from router.contract import Clock, Rng, StateStore
from router.errors import ConfigError
from router.trust.secrets import Secret, read_secret
from router.units import HOUR_S

# What every Provider says of itself.
_FACTS: Final = (
    "name", "signal", "grid_zones", "wants", "zones_per_call", "publishes_every_s", "fetch",
)  # fmt: skip
_PATIENT_REFRESHES: Final = 3.0
_LEAST_PATIENCE_S: Final = 60.0


class Sessions:
    """The one HTTP session of a process, opened when it is first needed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def get(self) -> aiohttp.ClientSession:
        """The session; to be called inside a running event loop."""
        if self._session is None:
            self._session = open_session()
        return self._session

    async def close(self) -> None:
        """Close it, if it ever was opened."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class ProviderDeps(NamedTuple):
    """What live providers are made with.

    ``environ``: where keys and a proxy may be. ``processes``: of this gateway, which share the
    limits on calls where there is no ``store``. ``on_call``: after every HTTP call. ``on_dropped``:
    for rows that could not be used. ``store``, ``holder``: None and "" when no other gateway shares
    the calls; else what all share, and a name that is unique to this process.
    """

    clock: Clock
    rng: Rng
    environ: Mapping[str, str]
    sessions: Sessions
    processes: int = 1
    on_call: OnCall = lambda source, reason, seconds: None
    on_dropped: OnDropped = lambda source, rows: None
    store: StateStore | None = None
    holder: str = ""


class _Context:
    """``ProviderContext`` of one configured provider."""

    def __init__(
        self,
        spec: LiveSpec,
        deps: ProviderDeps,
        coordinates: Mapping[str, tuple[float, float]],
        shared: SharedReadings | None = None,
    ) -> None:
        self.name = spec.name
        self.signal = spec.signal
        self.zones = spec.zones
        self.coordinates = coordinates
        self.timeout_s = spec.schema.timeout_ms / 1e3
        self.clock = deps.clock
        self.deps = deps
        self._spec = spec
        self._shared = shared

    def http(self, base_url: str, limits: Iterable[LimitSchema]) -> Http:
        """As in ``ProviderContext``."""
        deps = self.deps
        return HttpClient(
            deps.sessions.get,
            base_url,
            provider=self.name,
            clock=self.clock,
            budget=self.budget(limits),
            limits=HttpLimits(timeout_s=self.timeout_s),
            on_call=deps.on_call,
            proxy=proxy_of(base_url, deps.environ),
        )

    def budget(self, limits: Iterable[LimitSchema]) -> CallAllowance:
        """As in ``ProviderContext``."""
        if self._shared is not None:
            return self._shared.calls(CallLimit(one.calls, one.per_s) for one in limits)
        part = self.deps.processes
        return CallBudget(*(CallLimit(max(1, one.calls // part), one.per_s) for one in limits))

    def secret(self, stem: str) -> Secret:
        """As in ``ProviderContext``."""
        spec = self._spec.secrets[stem]
        key = f"{stem}_env" if spec.env else f"{stem}_file"
        return read_secret(
            self._spec.at, key, env=spec.env, file=spec.file, environ=self.deps.environ
        )


def live_source(
    spec: LiveSpec,
    deps: ProviderDeps,
    coordinates: Mapping[str, tuple[float, float]],
    patience_s: float,
) -> tuple[PolledSource, Provider]:
    """``spec``'s source, and its provider; raises ConfigError for an unusable key or id.

    ``patience_s``: how long gateways that share a store bear with one that should call and does
    not.
    """
    schema = schema_of(spec)
    shared = None
    if deps.store is not None:
        # A reload's new source does not hold what its predecessor still does.
        holder = f"{deps.holder}-{int(deps.rng.random() * 2**32):x}"
        shared = SharedReadings(
            deps.store, spec.name, spec.signal, holder, deps.clock, deps.rng, patience_s=patience_s
        )
    context = _Context(spec, deps, {**_shipped_coordinates(), **coordinates}, shared)
    try:
        provider = schema.build(context)
        missing = [fact for fact in _FACTS if not hasattr(provider, fact)]
    except ConfigError as error:
        problems = [(f"{spec.at}.{key}", text) for key, text in error.problems]
        raise ConfigError("carbon", problems) from None
    except Exception as error:
        # Of code that came with a package; its words may hold a key.
        why = f"{schema.kind!r} could not be built ({type(error).__name__}): tell its authors"
        raise ConfigError("carbon", [(spec.at, why)]) from error
    if missing:
        why = f"{schema.kind!r} is no Provider, it lacks {', '.join(missing)}: tell its authors"
        raise ConfigError("carbon", [(spec.at, why)])

    def on_fetch(source: str, want: Want, reason: str) -> None:
        # An HTTP library of its own tells nobody of its calls.
        if schema.own_http:
            deps.on_call(source, reason, 0.0)

    source = PolledSource(
        provider,
        deps.rng,
        PollTimes(
            forecast_s=spec.schema.forecast_refresh_s,
            # A call may take several requests.
            call_s=2.0 * context.timeout_s + 2.0,
        ),
        wants=wants(spec),
        shared=shared,
        on_fetch=on_fetch,
        on_dropped=deps.on_dropped,
    )
    return source, provider


def patience_s(refresh_s: float) -> float:
    """Of gateways with each other: it outlasts a missed refresh, and a round of calls that takes
    its time."""
    return max(_PATIENT_REFRESHES * refresh_s, _LEAST_PATIENCE_S)


def calls_per_hour(spec: LiveSpec, provider: Provider, measured: int, ahead: int) -> float:
    """About how many calls ``spec`` takes for so many grid zones of each role, at most.

    A twentieth more for the values, for those that come later than expected
    (`router.carbon.polling.source`).
    """
    asked = wants(spec) & provider.wants
    values, forecasts = (math.ceil(n / provider.zones_per_call) for n in (measured, ahead))
    calls = 0.0
    if Want.LATEST in asked:
        calls += values * 1.05 * HOUR_S / provider.publishes_every_s
    if Want.HISTORY in asked:
        calls += values * HOUR_S / PollTimes().history_s
    if Want.FORECAST in asked:
        calls += forecasts * HOUR_S / spec.schema.forecast_refresh_s
    return calls


def fingerprint(spec: LiveSpec, deps: ProviderDeps) -> bytes:
    """Of the keys of ``spec``, to see whether they changed; empty when they cannot be read."""
    context = _Context(spec, deps, {})
    try:
        keys = [context.secret(stem).reveal() for stem in sorted(spec.secrets)]
    except ConfigError:
        return b""
    return hashlib.sha256("\0".join(keys).encode()).digest()


def _shipped_coordinates() -> dict[str, tuple[float, float]]:
    places = shipped_places()
    return {zone: point for zone in places.zones if (point := places.coordinates(zone))}


def schema_of(spec: LiveSpec) -> ProviderSchema:
    """The keys of ``spec``; its configuration was read with `router.carbon.providers.registry`."""
    assert isinstance(spec.schema, ProviderSchema), spec.at
    return spec.schema


def wants(spec: LiveSpec) -> frozenset[Want]:
    """What a provider can be asked for, and the operator lets it be."""
    measured = {Want.LATEST, Want.HISTORY} if "measured" in spec.schema.roles else set()
    ahead = {Want.FORECAST} if "forecast" in spec.schema.roles else set()
    return schema_of(spec).wants & (measured | ahead)

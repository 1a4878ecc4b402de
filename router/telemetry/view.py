"""What the gateway looks like at one moment: read by the gauges and by the admin port."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

from router.core.health import State
from router.model import Intensity, Load
from router.unknown_figures import or_none


class RegionView(NamedTuple):
    """A region with its grid zone's intensity; None where no source knows it."""

    name: str
    grid_zone: str
    pue: float
    intensity: Intensity | None


class ServedView(NamedTuple):
    """A model on an endpoint. ``context_tokens``: as configured, inf where it is not;
    ``stated_tokens``: as the server says, NaN where it does not; ``listed``: whether the server
    names the model, None where it names none; ``g_per_token``: gCO2e of an output token there at
    the load that it is meant to run at, NaN where the intensity is unknown, and of a task."""

    name: str
    version: str
    context_tokens: float
    stated_tokens: float
    listed: bool | None
    g_per_token: float = math.nan


class EndpointView(NamedTuple):
    """An endpoint as this process sees it.

    ``in_flight``: this process's own requests there. ``load_age_s``: seconds since the server
    last told its load, inf when it never did, NaN when it is not asked and no answer tells.
    ``load_source``: how the latest of it came, "metrics" (its page) or "orca" (with an answer);
    what that did not tell is of the other way. ``max_in_flight``: of all gateways together, as
    configured. ``cause``: why it takes no traffic, or less than
    others; "" where it is healthy.
    """

    name: str
    region: str
    address: str
    models: tuple[str, ...]
    state: State
    in_flight: int
    load: Load | None
    load_age_s: float
    emulated: bool
    cause: str = ""
    load_source: str = ""
    served: tuple[ServedView, ...] = ()
    max_in_flight: float = math.nan


class FleetView(NamedTuple):
    """The whole of it. ``now``: on the clock that dates intensities (a replay may run fast)."""

    now: float
    policy: str
    snapshot_version: int
    snapshot_age_s: float
    regions: tuple[RegionView, ...]
    endpoints: tuple[EndpointView, ...]


Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


def as_json(view: FleetView) -> dict[str, Json]:
    """The view as JSON values with units in the keys; null where a figure is not known."""
    return {
        "now": view.now,
        "policy": view.policy,
        "snapshot": {"version": view.snapshot_version, "age_s": or_none(view.snapshot_age_s)},
        "regions": [_region(region, view.now) for region in view.regions],
        "endpoints": [_endpoint(endpoint) for endpoint in view.endpoints],
    }


def _region(region: RegionView, now: float) -> Json:
    known = region.intensity
    return {
        "name": region.name,
        "grid_zone": region.grid_zone,
        "pue": region.pue,
        "intensity": None
        if known is None
        else {
            "g_per_kwh": known.g_per_kwh,
            "low_g_per_kwh": known.low_g_per_kwh,
            "high_g_per_kwh": known.high_g_per_kwh,
            "basis": known.signal.basis.value,
            "factors": known.signal.factors.value,
            "kind": known.kind.value,
            "source": known.source,
            "age_s": known.age_s(now),
            "stale": now >= known.expires_at,
        },
    }


def _endpoint(endpoint: EndpointView) -> Json:
    load = endpoint.load
    return {
        "name": endpoint.name,
        "region": endpoint.region,
        "address": endpoint.address,
        "models": list(endpoint.models),
        "state": endpoint.state.value,
        "in_flight": endpoint.in_flight,
        "max_in_flight": or_none(endpoint.max_in_flight),
        "emulated": endpoint.emulated,
        "cause": endpoint.cause,
        "served": [_served(served) for served in endpoint.served],
        "load": None
        if load is None
        else {
            "running": or_none(load.running),
            "queued": or_none(load.queued),
            "kv_fraction": or_none(load.kv_fraction),
            "age_s": or_none(endpoint.load_age_s),
            "source": endpoint.load_source,
        },
    }


def _served(served: ServedView) -> Json:
    stated = served.stated_tokens
    shorter = stated < served.context_tokens
    in_force = stated if shorter else served.context_tokens
    source = "server" if shorter else "configured"
    return {
        "model": served.name,
        "version": served.version,
        "context_tokens": or_none(in_force),
        "context_source": source if in_force < math.inf else "",
        "stated_context_tokens": or_none(stated),
        "listed": served.listed,
    }

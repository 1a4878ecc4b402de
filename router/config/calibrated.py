"""Profiles that were fitted to endpoints' own meters while they ran, in the place of configured
ones: bounded before they steer anything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from router.config.profiles import ProfileSchema, calibrated_name
from router.config.settings import Config
from router.model import Endpoint, Fleet, Profile, Provenance, TaskProfile

# A fit says of each figure at most so many times what is configured, and at least a part as small:
# beyond that the meter is another's, or the profile of other hardware.
MOST_TIMES: Final = 5.0
# Readings of more would be a burden; those that come first in the file are calibrated.
MOST_ENDPOINTS: Final = 64
_SCHEMA: Final = TypeAdapter[Any](ProfileSchema)


class Calibrated(NamedTuple):
    """``former``: `key_of` the endpoint as it is configured, without which it says nothing.
    ``values``: as `profiles:` of a configuration has them."""

    endpoint: str
    former: str
    values: Mapping[str, Any]


def key_of(endpoint: Endpoint) -> str:
    """Of all that a fit depends on: its configured profile, its meter and its server's page."""
    meter = endpoint.meter
    labels = sorted((name, sorted(values)) for name, values in meter.labels.items()) if meter else 0
    told = (
        endpoint.models[0].profile, endpoint.address, endpoint.engine, endpoint.metrics_url,
        None if meter is None else (meter.url, meter.kind, labels, meter.covers_host),
    )  # fmt: skip
    return hashlib.blake2b(repr(told).encode(), digest_size=12).hexdigest()


def calibrated_profile(values: Mapping[str, Any], endpoint: Endpoint) -> Profile:
    """The profile of ``values``, of ``endpoint`` as it is configured.

    Raises ValueError for what is no profile that was calibrated on it, or no such machine's.
    """
    former = endpoint.models[0].profile
    try:
        schema = _SCHEMA.validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}") from None
    profile: Profile = schema.build(calibrated_name(former.name, endpoint.name))
    if isinstance(profile, TaskProfile) != isinstance(former, TaskProfile):
        raise ValueError(f"is no profile of the kind of {former.name}")
    if profile.provenance is not Provenance.CALIBRATED or profile.calibrated_on != endpoint.name:
        raise ValueError("does not say that it was calibrated on this endpoint")
    _check_figures(profile, former)
    return profile


def with_calibrated(config: Config, found: Iterable[Calibrated]) -> Config:
    """``config`` with what still holds of ``found``; the rest is as if it were not there."""
    by_name = {one.endpoint: one for one in found}
    endpoints = tuple(_endpoint(one, by_name.get(one.name)) for one in config.fleet.endpoints)
    if endpoints == config.fleet.endpoints:
        return config
    fleet: Fleet = replace(config.fleet, endpoints=endpoints)
    return replace(config, fleet=fleet)


def _endpoint(endpoint: Endpoint, found: Calibrated | None) -> Endpoint:
    meter = endpoint.meter
    if found is None or meter is None or meter.calibration is None:
        return endpoint
    if found.former != key_of(endpoint):
        return endpoint
    try:
        profile = calibrated_profile(found.values, endpoint)
    except ValueError:
        return endpoint
    return replace(endpoint, models=(replace(endpoint.models[0], profile=profile),))


def _check_figures(profile: Profile, former: Profile) -> None:
    figures = _figures(profile)
    for (name, unit), was in _figures(former).items():
        now = figures[name, unit]
        if was > 0.0 and not was / MOST_TIMES <= now <= was * MOST_TIMES:
            raise ValueError(
                f"{name} {now:.4g} {unit}, and {former.name} has {was:.4g}: more than "
                f"{MOST_TIMES:g} times off; is the meter this endpoint's, and the profile "
                "near its hardware?"
            )


def _figures(profile: Profile) -> dict[tuple[str, str], float]:
    """Of the whole machine, as decisions and receipts take them."""
    host = 1.0 + profile.host_fraction
    if isinstance(profile, TaskProfile):
        return {("a request", "J"): profile.energy_j * host}
    batch = profile.target_batch
    tpot_ms = profile.tpot_ms(batch)
    awake_w = profile.base_w * host + profile.host_awake_w
    return {
        ("idle", "W"): profile.idle_w * host + profile.host_idle_w,
        ("at work", "W"): awake_w,
        ("reading prompts", "W"): profile.prefill_w * host + profile.host_awake_w,
        ("an answer token at the target batch", "J"): awake_w * tpot_ms / 1e3 / batch
        + profile.w_per_token_s * host,
        ("an iteration of one", "ms"): profile.tpot_ms(1.0),
        ("an iteration at the target batch", "ms"): tpot_ms,
    }

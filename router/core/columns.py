"""Snapshot -> the float64 columns that the kernel reads.

Built at every refresh of carbon data and at every reload, never on a request's way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from router.core import kernel_rows as k
from router.core.energy import long_run_energy, short_run_energy
from router.core.layout import Candidates, Layout
from router.core.rungs import CI_HOURS, GreenRung, green_rungs_of, rungs_of
from router.core.stepwise import mean_of_steps
from router.model import (
    Decision,
    Energy,
    Forecast,
    Intensity,
    Kind,
    Policy,
    Profile,
    StaleCarbon,
    TaskProfile,
    require_same_signal,
)
from router.units import HOUR_S, J_PER_KWH

# On decisions by which nothing counted but grams.
GREENEST = "greenest_only"

_UNCERTAIN = (Kind.CLIMATOLOGY, Kind.ANNUAL_MEAN)


@dataclass(frozen=True, slots=True, eq=False)
class ModelColumns:
    """What the kernel reads of one model: ``table`` (rows, n) as `kernel_rows` lays it out.

    ``origin_rows``: row of the RTT from each origin. ``scratch`` (k.SCRATCH_ROWS, n): the
    kernel's own. ``uncached`` (n,): zeros, what is cached of a prompt that nothing is known of.
    """

    candidates: Candidates
    table: NDArray[np.float64]
    origin_rows: Mapping[str, int]
    scratch: NDArray[np.float64]
    uncached: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything immutable that a decision reads. ``hour_ends_at`` bounds the first CI slot.

    ``forecasts`` by grid zone, from the current hour on; zones that no source knows are absent.
    ``rungs``: the policy's parameters, as it says and on each rung of its ladder. ``current`` by
    region: the intensity that holds from ``built_at`` until ``hour_ends_at``, so that most requests
    need no look into a forecast.
    ``residency``: the policy's own mask. ``green_rungs``: as `rungs`, of requests for which a
    carbon budget has nothing left. ``annual_means``: by grid zone, as it was built with.
    """

    version: int
    built_at: float
    layout: Layout
    policy: Policy
    forecasts: Mapping[str, Forecast]
    columns: Mapping[tuple[str, str], ModelColumns]
    rungs: tuple[NDArray[np.float64], ...]
    hour_ends_at: float
    current: Mapping[str, Intensity]
    residency: int
    green_rungs: tuple[GreenRung, ...] = ()
    annual_means: Mapping[str, Intensity] = field(default_factory=dict)

    def params(self, decision: Decision) -> NDArray[np.float64]:
        """The parameters (k.PARAMS,) by which ``decision`` was taken."""
        if GREENEST in decision.flags:
            for rung in self.green_rungs:
                if rung.relaxed == decision.relaxed:
                    return rung.params
        return self.rungs[len(decision.relaxed)]

    def intensity(self, region: str, when: float) -> Intensity | None:
        """Intensity of a region's grid zone at ``when``; None when no source knows it."""
        forecast = self.forecasts.get(self.layout.fleet.regions[region].grid_zone)
        return None if forecast is None else forecast.at(when)

    def mean_g_per_kwh(self, region: str, when: float, run_s: float) -> float:
        """Intensity averaged over a run, g/kWh; NaN when no source knows the grid zone."""
        if self.built_at <= when and when + run_s <= self.hour_ends_at:
            current = self.current.get(region)
            if current is not None:
                return current.g_per_kwh
        forecast = self.forecasts.get(self.layout.fleet.regions[region].grid_zone)
        return math.nan if forecast is None else mean_over(forecast, when, run_s)


def mean_over(forecast: Forecast, start: float, run_s: float) -> float:
    """Intensity averaged over ``start`` .. ``start + run_s``, g/kWh.

    At most as many steps as there are slots, however long the run: the first slot also holds
    before it, the last one ever after.
    """
    slots, step_s, last = forecast.slots, forecast.step_s, len(forecast.slots) - 1
    begin_s = start - forecast.start
    first = min(max(math.floor(begin_s / step_s), 0), last)
    if not run_s > 0.0 or begin_s + run_s <= step_s * (first + 1):
        return slots[first].g_per_kwh
    # Most runs reach into the next slot and no further.
    end = min(math.floor(min((begin_s + run_s) / step_s, last)) + 1, last)
    values = np.array([slot.g_per_kwh for slot in slots[first : end + 1]], np.float64)
    begin_s -= first * step_s
    return float(mean_of_steps(values, step_s, begin_s, begin_s + run_s))


def build_snapshot(
    layout: Layout,
    policy: Policy,
    forecasts: Mapping[str, Forecast],
    annual_means: Mapping[str, Intensity],
    now: float,
    version: int,
) -> Snapshot:
    """Columns of every model at ``now``. Raises MixedBasisError when signals differ.

    ``annual_means`` by grid zone: what a policy with ``annual_mean`` decides by.
    """
    deciding = [forecast.slots[0] for forecast in forecasts.values()]
    if policy.annual_mean:
        deciding += annual_means.values()
    if deciding:
        require_same_signal(*deciding)
    hour_ends_at = (math.floor(now / HOUR_S) + 1) * HOUR_S
    return Snapshot(
        version=version,
        built_at=now,
        layout=layout,
        policy=policy,
        forecasts=forecasts,
        columns={
            key: _columns(layout, candidates, policy, forecasts, annual_means, now)
            for key, candidates in layout.candidates.items()
        },
        rungs=rungs_of(policy),
        green_rungs=green_rungs_of(policy),
        hour_ends_at=hour_ends_at,
        current={
            region.name: forecast.at(now)
            for region in layout.fleet.regions.values()
            if (forecast := forecasts.get(region.grid_zone))
            and forecast.at(now) is forecast.at(math.nextafter(hour_ends_at, 0.0))
        },
        residency=layout.residency_mask(policy.residency),
        annual_means=annual_means,
    )


def _columns(
    layout: Layout,
    candidates: Candidates,
    policy: Policy,
    forecasts: Mapping[str, Forecast],
    annual_means: Mapping[str, Intensity],
    now: float,
) -> ModelColumns:
    fleet = layout.fleet
    origins = sorted(fleet.rtt_ms)
    origins_from = k.CI_FROM + CI_HOURS
    table = np.zeros((origins_from + len(origins), len(candidates.endpoints)))
    capacity = sum(endpoint.max_in_flight for endpoint in candidates.endpoints)
    static = [
        _static(
            served.profile,
            endpoint.max_in_flight,
            served.context_tokens,
            fleet.regions[endpoint.region].pue,
            capacity,
            policy,
        )
        for endpoint, served in zip(candidates.endpoints, candidates.served, strict=True)
    ]
    table[: k.CI_FROM] = np.array(static).T
    for index, name in enumerate(candidates.regions):
        rows = slice(candidates.starts[index], candidates.starts[index + 1])
        zone = fleet.regions[name].grid_zone
        hours = _deciding_hours(policy, forecasts.get(zone), annual_means.get(zone), now)
        table[k.CI_FROM : origins_from, rows] = np.array(hours)[:, None]
        rtt_ms = [fleet.rtt_ms[origin][name] for origin in origins]
        table[origins_from:, rows] = np.array(rtt_ms)[:, None]
    table[k.MAX_PREMIUM] = max_premiums(table)
    rows_of = {origin: origins_from + column for column, origin in enumerate(origins)}
    n = table.shape[1]
    return ModelColumns(candidates, table, rows_of, np.empty((k.SCRATCH_ROWS, n)), np.zeros(n))


def _static(
    profile: Profile,
    max_in_flight: int,
    context_tokens: float,
    pue: float,
    capacity: int,
    policy: Policy,
) -> list[float]:
    short = short_run_energy(profile)
    joules = long_run_energy(profile) if policy.energy is Energy.LONG_RUN else short
    if isinstance(profile, TaskProfile):
        # A tensor answer has one "token": all of its time is time to the first byte.
        latency = [profile.service_ms, 0.0, 0.0, 0.0, profile.service_ms_per_in_flight]
        latency += [0.0, 0.0, 0.0, 0.0]
    else:
        latency = [
            profile.prefill_base_ms,
            profile.prefill_ms_per_piece,
            profile.prefill_ms_per_token,
            profile.prefill_ms_per_token2 / 2.0,
            0.0,
            profile.tpot_base_ms,
            profile.tpot_ms_per_sequence,
            profile.tpot_ms_per_cached_token,
            profile.prompt_ms(profile.max_batched_tokens),
        ]
    return [
        *latency,
        float(profile.max_batch),
        1.0 / profile.max_batch,
        float(max_in_flight),
        1.0 / max_in_flight,
        joules.j_per_token,
        joules.j_per_cached_token,
        joules.j_per_prompt_ms,
        joules.j_per_request,
        short.wake_w,
        pue / J_PER_KWH,
        context_tokens,
        1.0 / capacity,
        0.0,
        # Nothing that is served is known to be released.
        0.0,
        0.0,
    ]


def max_premiums(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The most that room at a candidate can be worth, in g/kWh of its energy; (n,).

    Twice what the same work emits at the dirtiest candidate: its intensity, the worst of the hours
    known, times how much more energy the hardware there takes for answers or for prompts,
    whichever is more. Twice, because room there may have its price too. 0 where the work takes no
    energy.
    """
    answers = table[k.J_PER_TOKEN] + table[k.J_PER_REQUEST]
    prompts = table[k.J_PER_PROMPT_MS] * table[k.PREFILL_MS_PER_TOKEN]
    hours = table[k.CI_FROM : k.CI_FROM + CI_HOURS]
    most: NDArray[np.float64] = np.zeros_like(answers)
    for joules in (answers, prompts):
        kwh = joules * table[k.KWH_PER_J]
        worst_g = (kwh * np.where(hours <= k.KNOWN_CI, hours, 0.0)).max()
        np.maximum(
            most, np.divide(2.0 * worst_g, kwh, out=np.zeros_like(kwh), where=kwh > 0.0), out=most
        )
    return most


def _deciding_hours(
    policy: Policy, forecast: Forecast | None, annual: Intensity | None, now: float
) -> list[float]:
    """CI of the current and the coming hours as the policy wants them, UNKNOWN_CI if excluded."""
    if policy.annual_mean:
        return [k.UNKNOWN_CI if annual is None else annual.g_per_kwh] * CI_HOURS
    if forecast is None:
        return [k.UNKNOWN_CI] * CI_HOURS
    if policy.stale_carbon is StaleCarbon.EXCLUDE and is_stale(policy, forecast.at(now), now):
        return [k.UNKNOWN_CI] * CI_HOURS
    hour = math.floor(now / HOUR_S) * HOUR_S
    starts = [max(now, hour + HOUR_S * ahead) for ahead in range(CI_HOURS)]
    return [
        mean_over(forecast, start, hour + HOUR_S * (ahead + 1) - start)
        for ahead, start in enumerate(starts)
    ]


def is_stale(policy: Policy, intensity: Intensity, now: float) -> bool:
    """Whether the policy counts a value as stale: old, expired, or only climatology."""
    old = intensity.age_s(now) > policy.stale_after_s or now > intensity.expires_at
    return old or intensity.kind in _UNCERTAIN

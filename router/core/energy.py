"""Joules of one request on one replica, from its profile (SCIENCE, sections 1 and 2).

GPU figures come from the profile; ``host_fraction`` adds CPU and DRAM; PUE is applied by callers.
All functions are pure.
"""

from __future__ import annotations

from typing import NamedTuple

from router.model import Profile, TaskProfile, TokenProfile
from router.units import MS_PER_S


class UnitEnergy(NamedTuple):
    """IT energy (GPU and host) of one more request, as the cost kernel takes it.

    Joules = ``j_per_token`` * output tokens + ``j_per_request`` + ``wake_w`` * run seconds when
    the replica would otherwise be idle.
    """

    j_per_token: float
    j_per_request: float
    wake_w: float


def tpot_ms(profile: TokenProfile, batch: float) -> float:
    """Time per output token at ``batch`` running sequences, ms: affine in the batch."""
    return profile.tpot_base_ms + profile.tpot_ms_per_sequence * batch


def prefill_ms(profile: TokenProfile, input_tokens: float) -> float:
    """Time to read a prompt, ms: affine in its tokens."""
    return profile.prefill_base_ms + profile.prefill_ms_per_token * input_tokens


def token_rate(profile: TokenProfile, batch: float) -> float:
    """Output tokens per second of the whole replica at ``batch``."""
    return batch * MS_PER_S / tpot_ms(profile, batch)


def power_w(profile: TokenProfile, batch: float) -> float:
    """GPU power at ``batch`` running sequences, W: idle draw at 0, affine in tokens/s above."""
    if batch <= 0:
        return profile.idle_w
    return profile.base_w + profile.w_per_token_s * token_rate(profile, batch)


def attributional_j_per_token(profile: TokenProfile, batch: float) -> float:
    """A request's share of GPU energy per output token at a steady ``batch``: P(x) / x."""
    return power_w(profile, batch) / token_rate(profile, batch)


def short_run_j_per_token(profile: TokenProfile) -> float:
    """GPU energy that one more output token adds on a replica that is busy anyway.

    Its dynamic energy, plus the awake power above idle for the time by which it prolongs the
    busy period: N tokens at batch b take N * (base / b + slope) ms, so one token adds ``slope``.
    """
    awake_w = profile.base_w - profile.idle_w
    return profile.w_per_token_s + awake_w * profile.tpot_ms_per_sequence / MS_PER_S


def long_run_energy(profile: Profile) -> UnitEnergy:
    """Priced at the load the replica is meant to run at, fixed draw included (section 4)."""
    host = 1.0 + profile.host_fraction
    if isinstance(profile, TaskProfile):
        return UnitEnergy(0.0, profile.energy_j * host, 0.0)
    return UnitEnergy(attributional_j_per_token(profile, profile.target_batch) * host, 0.0, 0.0)


def short_run_energy(profile: Profile) -> UnitEnergy:
    """What the next request alone adds, waking included."""
    host = 1.0 + profile.host_fraction
    if isinstance(profile, TaskProfile):
        return UnitEnergy(0.0, profile.energy_j * host, 0.0)
    return UnitEnergy(
        short_run_j_per_token(profile) * host, 0.0, (profile.base_w - profile.idle_w) * host
    )


class RunEnergy(NamedTuple):
    """IT joules of one request, both ways of counting."""

    attributional_j: float
    marginal_j: float


# A request that took longer than so many times the profile's time for its tokens was held up by
# something that is not its own work.
_MOST_OF_PROFILE = 3.0


def estimate_run(
    profile: Profile, output_tokens: float, batch: float, service_s: float, prefill_s: float
) -> RunEnergy:
    """Both energies of a finished request that took ``service_s`` (round trip apart) at a mean
    ``batch`` (itself included). Used when the backend does not report joules itself.

    Its share of the awake power for as long as it held a place, plus the dynamic energy of its
    tokens: at a steady batch P(x) / x times the tokens, but true to the time that it took. Never
    above the replica's greatest power over that time. ``prefill_s`` as the profile has it.
    """
    host = 1.0 + profile.host_fraction
    if isinstance(profile, TaskProfile):
        return RunEnergy(profile.energy_j * host, profile.energy_j * host)
    batch = max(batch, 1.0)
    running = min(batch, profile.max_batch)
    usual_s = prefill_s + output_tokens * tpot_ms(profile, running) / MS_PER_S
    # Of those beyond max_batch each waits its turn: all hold a place for an equal share of time.
    held_s = min(service_s * running / batch, _MOST_OF_PROFILE * usual_s)
    tokens_j = profile.w_per_token_s * output_tokens
    attributional_j = profile.base_w * held_s / running + tokens_j
    # Alone it keeps the replica awake for its whole run, in company for the time that it adds.
    alone = max(0.0, 2.0 - batch)
    added_s = min(profile.tpot_ms_per_sequence * output_tokens / MS_PER_S, held_s)
    awake_s = alone * held_s + (1.0 - alone) * added_s
    marginal_j = tokens_j + (profile.base_w - profile.idle_w) * awake_s
    most_j = power_w(profile, profile.max_batch) * service_s
    return RunEnergy(min(attributional_j, most_j) * host, min(marginal_j, most_j) * host)


def predict_run(profile: Profile, input_tokens: float, output_tokens: float, batch: float) -> float:
    """Attributional IT joules of a request that is still to run at a steady ``batch``."""
    host = 1.0 + profile.host_fraction
    if isinstance(profile, TaskProfile):
        return profile.energy_j * host
    running = min(max(batch, 1.0), profile.max_batch)
    run_ms = prefill_ms(profile, input_tokens) + output_tokens * tpot_ms(profile, running)
    share_j = profile.base_w * run_ms / MS_PER_S / running
    return (share_j + profile.w_per_token_s * output_tokens) * host

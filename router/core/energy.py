"""Joules of one request on one replica, from its profile (SCIENCE, sections 1 and 2).

GPU figures come from the profile, which also says what CPU and DRAM add; PUE is applied by callers.
All functions are pure.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from router.core.burden import context_tokens
from router.model import Profile, TaskProfile, TokenProfile
from router.units import MS_PER_S


class UnitEnergy(NamedTuple):
    """IT energy (GPU and host) of one more request, as the cost kernel takes it.

    Joules = (``j_per_token`` + ``j_per_cached_token`` * tokens that it has cached on the mean)
    * output tokens + ``j_per_prompt_ms`` * ms that its prompt takes of
    iterations + ``j_per_request`` + ``wake_w`` * run seconds when the replica would otherwise be
    idle.
    """

    j_per_token: float
    j_per_cached_token: float
    j_per_prompt_ms: float
    j_per_request: float
    wake_w: float


def token_rate(profile: TokenProfile, batch: float) -> float:
    """Output tokens per second of the whole replica at ``batch``."""
    return batch * MS_PER_S / profile.tpot_ms(batch)


def power_w(profile: TokenProfile, batch: float) -> float:
    """IT power at ``batch`` decoding sequences and no prompts, W: idle draw at 0, affine in
    tokens/s above."""
    if batch <= 0:
        return idle_w(profile)
    return awake_w(profile) + _token_j(profile) * token_rate(profile, batch)


def greatest_w(profile: TokenProfile) -> float:
    """The most that a replica draws, prompts or answers, W."""
    return max(prefill_w(profile), power_w(profile, profile.max_batch))


def idle_w(profile: TokenProfile) -> float:
    """IT power of a loaded replica without requests, W."""
    return profile.idle_w * (1.0 + profile.host_fraction) + profile.host_idle_w


def awake_w(profile: TokenProfile) -> float:
    """IT power while an iteration runs, tokens apart, W."""
    return profile.base_w * (1.0 + profile.host_fraction) + profile.host_awake_w


def prefill_w(profile: TokenProfile, gpu_w: float = math.nan) -> float:
    """IT power in the time that prompts take of iterations, W; ``gpu_w``: at that of the GPUs."""
    gpu_w = profile.prefill_w if math.isnan(gpu_w) else gpu_w
    return gpu_w * (1.0 + profile.host_fraction) + profile.host_awake_w


def _token_j(profile: TokenProfile) -> float:
    """IT energy that an output token takes beside the time of its iteration, J."""
    return profile.w_per_token_s * (1.0 + profile.host_fraction)


def attributional_j_per_token(profile: TokenProfile, batch: float) -> float:
    """A request's share of IT energy per output token at a steady ``batch``, P(x) / x; cached
    tokens apart."""
    return power_w(profile, batch) / token_rate(profile, batch)


def short_run_j_per_token(profile: TokenProfile) -> float:
    """IT energy that one more output token adds on a replica that is busy anyway.

    Its dynamic energy, plus the awake power above idle for the time by which it prolongs the
    busy period: N tokens at batch b take N * (base / b + slope) ms, so one token adds ``slope``.
    """
    more_w = awake_w(profile) - idle_w(profile)
    return _token_j(profile) + more_w * profile.tpot_ms_per_sequence / MS_PER_S


def long_run_energy(profile: Profile) -> UnitEnergy:
    """Priced at the load the replica is meant to run at, fixed draw included (section 4)."""
    if isinstance(profile, TaskProfile):
        return UnitEnergy(0.0, 0.0, 0.0, task_j(profile), 0.0)
    return UnitEnergy(
        attributional_j_per_token(profile, profile.target_batch),
        awake_w(profile) * profile.tpot_ms_per_cached_token / MS_PER_S,
        prefill_w(profile) / MS_PER_S,
        0.0,
        0.0,
    )


def short_run_energy(profile: Profile) -> UnitEnergy:
    """What the next request alone adds, waking included."""
    if isinstance(profile, TaskProfile):
        return UnitEnergy(0.0, 0.0, 0.0, task_j(profile), 0.0)
    idle = idle_w(profile)
    return UnitEnergy(
        short_run_j_per_token(profile),
        (awake_w(profile) - idle) * profile.tpot_ms_per_cached_token / MS_PER_S,
        (prefill_w(profile) - idle) / MS_PER_S,
        0.0,
        awake_w(profile) - idle,
    )


def task_j(profile: TaskProfile) -> float:
    """IT energy of one request, J."""
    return profile.energy_j * (1.0 + profile.host_fraction)


class RunEnergy(NamedTuple):
    """IT joules of one request, both ways of counting; ``prompt_j``: of the attributional ones,
    those that reading its prompt took.
    """

    attributional_j: float
    marginal_j: float
    prompt_j: float


class Crowd(NamedTuple):
    """What a request met on a replica on the mean while it ran: ``batch`` requests and their
    ``cached_tokens``, itself included, and what the prompts of the others take of an iteration.
    """

    batch: float
    prompts_ms: float = 0.0
    cached_tokens: float = 0.0


# A request that took longer than so many times the profile's time for its tokens was held up by
# something that is not its own work.
_MOST_OF_PROFILE = 3.0


def estimate_run(
    profile: Profile,
    input_tokens: float,
    output_tokens: float,
    crowd: Crowd,
    service_s: float,
    gpu_prefill_w: float = math.nan,
    cached_tokens: float = 0.0,
) -> RunEnergy:
    """Both energies of a finished request that took ``service_s`` (round trip apart) among
    ``crowd``. Used when the backend does not report joules itself.

    Its prompt at the power of prompts for the time that the profile has for it; of the rest of
    that time its share of the awake power, other requests' prompts apart, which pay for themselves;
    and the dynamic energy of its tokens. At a steady batch that is P(x) / x times the tokens, but
    true to the time that it took. Never above the replica's greatest power over that time.
    ``gpu_prefill_w``: instead of the profile's; ``cached_tokens``: of its prompt, not read.
    """
    if isinstance(profile, TaskProfile):
        return RunEnergy(task_j(profile), task_j(profile), 0.0)
    batch = max(crowd.batch, 1.0)
    running = min(batch, profile.max_batch)
    share = running / batch
    own_s = profile.prompt_ms(input_tokens, cached_tokens) / MS_PER_S
    decode_ms = profile.tpot_ms(running, crowd.cached_tokens * share)
    pace_ms = decode_ms + crowd.prompts_ms * share
    usual_s = own_s + (output_tokens * pace_ms + profile.lone_ttft_ms(0.0)) / MS_PER_S
    # Of those beyond max_batch each waits its turn: all hold a place for an equal share of time.
    held_s = min(service_s * share, _MOST_OF_PROFILE * usual_s)
    own_s = min(own_s, held_s)
    decoding_s = (held_s - own_s) * decode_ms / pace_ms
    awake, idle, prompt_w = awake_w(profile), idle_w(profile), prefill_w(profile, gpu_prefill_w)
    tokens_j = _token_j(profile) * output_tokens
    prompt_j = prompt_w * own_s
    attributional_j = awake * decoding_s / running + tokens_j + prompt_j
    # Alone it keeps the replica awake for its whole run, in company for the time that it adds.
    alone = max(0.0, 2.0 - batch)
    context = context_tokens(input_tokens, output_tokens)
    slower_ms = profile.tpot_ms_per_sequence + profile.tpot_ms_per_cached_token * context
    added_s = min(slower_ms * output_tokens / MS_PER_S, decoding_s)
    awake_s = alone * decoding_s + (1.0 - alone) * added_s
    marginal_j = tokens_j + (awake - idle) * awake_s + (prompt_w - idle) * own_s
    most_j = greatest_w(profile) * service_s
    return RunEnergy(
        min(attributional_j, most_j),
        min(marginal_j, most_j),
        min(prompt_j, attributional_j, most_j),
    )


class RunCoefficients(NamedTuple):
    """What `predict_run` takes of a profile, for who computes it elsewhere: W, ms and J."""

    awake_w: float
    token_j: float
    prefill_w: float
    tpot_base_ms: float
    tpot_ms_per_sequence: float
    tpot_ms_per_cached_token: float
    max_batch: float
    prefill_ms_per_piece: float
    prefill_ms_per_token: float
    prefill_ms_per_token2: float


def run_coefficients(profile: TokenProfile) -> RunCoefficients:
    """Of a profile."""
    return RunCoefficients(
        awake_w(profile),
        _token_j(profile),
        prefill_w(profile),
        profile.tpot_base_ms,
        profile.tpot_ms_per_sequence,
        profile.tpot_ms_per_cached_token,
        profile.max_batch,
        profile.prefill_ms_per_piece,
        profile.prefill_ms_per_token,
        profile.prefill_ms_per_token2,
    )


def predict_run(
    profile: Profile,
    input_tokens: float,
    output_tokens: float,
    crowd: Crowd,
    cached_tokens: float = 0.0,
) -> RunEnergy:
    """Attributional IT joules of a request that is still to run among ``crowd``; its marginal ones
    are NaN. ``cached_tokens``: of its prompt, expected not to be read."""
    if isinstance(profile, TaskProfile):
        return RunEnergy(task_j(profile), math.nan, 0.0)
    batch = max(crowd.batch, 1.0)
    running = min(batch, profile.max_batch)
    decode_ms = profile.tpot_ms(running, crowd.cached_tokens * running / batch)
    share_j = awake_w(profile) * output_tokens * decode_ms / MS_PER_S / running
    prompt_j = prefill_w(profile) * profile.prompt_ms(input_tokens, cached_tokens) / MS_PER_S
    return RunEnergy(share_j + _token_j(profile) * output_tokens + prompt_j, math.nan, prompt_j)

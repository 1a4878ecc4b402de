"""How many requests a replica holds at once when each keeps its pace, with and without prompts.

The mean iteration of a replica that holds b requests of a kind of load, read one after the other in
the iterations of the answers, is

    a + (c + d * cached + prompts) * b

with ``cached`` the tokens that a sequence has cached, on the mean over what is decoded, and
``prompts`` the seconds that prompts take for each token decoded: a request stays for as many
iterations as it has tokens, and so many prompts are read then as there are others beside it.
(`docs/decisions/prompts-are-work.md`; tests hold it to exact replicas.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.extras import need
from router.lab.replay.physics import Physics
from router.lab.sim.bound.demand import CACHED, INPUT, INPUT2, LATER, REQUESTS, Floats, Pool
from router.lab.sim.bound.moments import Sample

_HALVINGS = 40


class TokenMix(NamedTuple):
    """What the load of a replica is made of, by decoded token: ``cached`` tokens, and ``prompts_s``
    that it takes to read them.
    """

    cached: float
    prompts_s: float

    @classmethod
    def of(cls, physics: Physics, amounts: Floats) -> TokenMix:
        """Of the AMOUNTS of all requests together."""
        if physics.one_unit or amounts[LATER] <= 0.0:
            return cls(0.0, 0.0)
        prompts_s = (
            physics.prefill_s_per_piece * amounts[REQUESTS]
            + physics.prefill_s_per_token * amounts[INPUT]
            + physics.prefill_s_per_token2 * amounts[INPUT2]
        )
        return cls(float(amounts[CACHED] / amounts[LATER]), float(prompts_s / amounts[LATER]))


# Nobody waits for other requests' prompts or cached tokens, as in the bound.
FREE = TokenMix(0.0, 0.0)


def batches_of(pools: list[Pool], paces_s: Floats, mixes: list[TokenMix]) -> Floats:
    """The most requests at once at which a group keeps its pace in each pool (groups, pools)."""
    found = np.zeros(paces_s.shape)
    for place, (pool, mix) in enumerate(zip(pools, mixes, strict=True)):
        physics, pace_s = pool.physics, paces_s[:, place]
        slope_s = physics.tpot_s_per_sequence + mix.prompts_s
        slope_s += physics.tpot_s_per_cached_token * mix.cached
        free_s = pace_s - physics.tpot_base_s
        most = free_s / slope_s if slope_s > 0.0 else np.full(len(pace_s), np.inf)
        found[:, place] = np.where(pace_s > 0.0, np.clip(most, 1.0, pool.batch), 0.0)
    return found


def kept_batch(pool: Pool, sample: Sample, paces_s: Floats, mix: TokenMix, kept: float) -> float:
    """The most requests at once at which a share ``kept`` of those in ``sample`` keep their pace
    when prompts come by chance, at least 1. ``paces_s`` (n,): what each tolerates, 0: left out.

    How many prompts are read while a request runs is taken as Poisson, their lengths as drawn from
    the sample, and the sum of both as gamma with that mean and variance.
    """
    physics = pool.physics
    later = sample.output_tokens - 1.0
    counts = (later > 0.0) & (paces_s > 0.0)
    if physics.one_unit or not (counts & np.isfinite(paces_s)).any():
        return float(pool.batch)
    prompts_s = physics.prompts_s(sample.input_tokens, sample.warm_tokens)
    mean_s = max(float(prompts_s.mean()), 1e-12)
    # Of n tokens at batch b: b n prompts_s in all, in prompts of mean_s each.
    squares = float((prompts_s**2).mean()) / mean_s
    later, pace_s = later[counts], paces_s[counts]
    low, high = 1.0, float(pool.batch)
    if _share_kept(physics, mix, high, later, pace_s, squares) >= kept:
        return high
    for _ in range(_HALVINGS):
        batch = (low + high) / 2.0
        enough = _share_kept(physics, mix, batch, later, pace_s, squares) >= kept
        low, high = (batch, high) if enough else (low, batch)
    return low


def _share_kept(
    physics: Physics, mix: TokenMix, batch: float, later: Floats, pace_s: Floats, squares_s: float
) -> float:
    decode_s = physics.tpot_s(batch, batch * mix.cached)
    room_s = (pace_s - decode_s) * later
    mean_s = np.maximum(batch * mix.prompts_s * later, 1e-12)
    spread_s = max(squares_s, 1e-12)
    within = _special().gammainc(mean_s / spread_s, np.maximum(room_s, 0.0) / spread_s)
    fits: NDArray[np.bool_] = room_s >= 0.0
    return float(np.where(fits, within, 0.0).mean())


def _special() -> Any:
    with need("sim", "the bound's plans", file="carbon-router bound --plans"):
        from scipy import special
    return special

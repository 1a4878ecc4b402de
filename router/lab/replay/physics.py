"""What a queue of requests needs of a profile, in seconds, watts and joules of the whole server."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.model import Profile, PromptOrder, TaskProfile
from router.units import MS_PER_S


class Physics(NamedTuple):
    """Watts and joules are those of GPUs and host together, PUE apart.

    ``one_unit``: work is not in tokens, and no prompt is read. ``by_slot``: prompts are read in
    order of slot numbers, not as they came. ``prefix_cache_tokens``: of prompts, kept in blocks of
    ``prefix_block``.
    """

    idle_w: float
    base_w: float
    prefill_w: float
    j_per_token: float
    tpot_base_s: float
    tpot_s_per_sequence: float
    tpot_s_per_cached_token: float
    prefill_base_s: float
    prefill_s_per_piece: float
    prefill_s_per_token: float
    prefill_s_per_token2: float
    max_batched_tokens: float
    max_batch: int
    by_slot: bool
    one_unit: bool
    prefix_cache_tokens: int = 0
    prefix_block: float = 1.0

    @classmethod
    def of(cls, profile: Profile) -> Physics:
        """The physics of a token or a task profile."""
        host = 1.0 + profile.host_fraction
        if isinstance(profile, TaskProfile):
            slope_s = profile.service_ms_per_in_flight / MS_PER_S
            base_s = profile.service_ms / MS_PER_S - slope_s
            return cls(
                0.0, 0.0, 0.0, profile.energy_j * host, base_s, slope_s, 0.0, 0.0, 0.0, 0.0, 0.0,
                0.0, profile.max_batch, False, True,
            )  # fmt: skip
        return cls(
            idle_w=profile.idle_w * host + profile.host_idle_w,
            base_w=profile.base_w * host + profile.host_awake_w,
            prefill_w=profile.prefill_w * host + profile.host_awake_w,
            j_per_token=profile.w_per_token_s * host,
            tpot_base_s=profile.tpot_base_ms / MS_PER_S,
            tpot_s_per_sequence=profile.tpot_ms_per_sequence / MS_PER_S,
            tpot_s_per_cached_token=profile.tpot_ms_per_cached_token / MS_PER_S,
            prefill_base_s=profile.prefill_base_ms / MS_PER_S,
            prefill_s_per_piece=profile.prefill_ms_per_piece / MS_PER_S,
            prefill_s_per_token=profile.prefill_ms_per_token / MS_PER_S,
            prefill_s_per_token2=profile.prefill_ms_per_token2 / MS_PER_S,
            max_batched_tokens=float(profile.max_batched_tokens),
            max_batch=profile.max_batch,
            by_slot=profile.prompt_order is PromptOrder.SLOT,
            one_unit=False,
            prefix_cache_tokens=profile.prefix_cache_tokens,
            prefix_block=float(profile.prefix_block),
        )

    def tpot_s(self, batch: float, cached_tokens: float = 0.0) -> float:
        """Seconds of an iteration of ``batch`` sequences with so many cached tokens in all."""
        decode_s = self.tpot_base_s + self.tpot_s_per_sequence * batch
        return decode_s + self.tpot_s_per_cached_token * cached_tokens

    def piece_s(self, tokens: float, cached_tokens: float) -> float:
        """What a piece of a prompt adds to an iteration, ``cached_tokens`` after its beginning."""
        per_token = self.prefill_s_per_token + self.prefill_s_per_token2 * (
            cached_tokens + tokens / 2.0
        )
        return self.prefill_s_per_piece + per_token * tokens

    def prefix_blocks(self, block_tokens: float) -> int:
        """Blocks of so many tokens that it keeps."""
        return int(self.prefix_cache_tokens / block_tokens)

    def prompt_s(self, input_tokens: float) -> float:
        """What a whole prompt takes of iterations, read in one piece."""
        return 0.0 if self.one_unit else self.piece_s(input_tokens, 0.0)

    def prompts_s(
        self,
        input_tokens: NDArray[np.floating | np.integer],
        cached_tokens: NDArray[np.float64] | float = 0.0,
    ) -> NDArray[np.float64]:
        """`prompt_s` of many prompts, of which the first ``cached_tokens`` need not be read."""
        if self.one_unit:
            return np.zeros(len(input_tokens))
        squared_s = self.prefill_s_per_token2 * (input_tokens + cached_tokens) / 2.0
        read_s = (self.prefill_s_per_token + squared_s) * (input_tokens - cached_tokens)
        return np.asarray(self.prefill_s_per_piece + read_s, np.float64)

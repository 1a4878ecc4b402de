"""What a request takes of a replica: its time, its watts, and how those are known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Provenance(StrEnum):
    """How an energy or latency figure came to be, from the best known to the least.

    Of joules: MEASURED of this request, by its server; by a profile that was CALIBRATED on its
    endpoint's meter; by a PROFILE that was measured on such hardware; ESTIMATED by one that was
    not, or of a run that was cut short; EMULATED where there is no real machine. A profile itself
    is never PROFILE.
    """

    MEASURED = "measured"
    CALIBRATED = "calibrated"
    PROFILE = "profile"
    ESTIMATED = "estimated"
    EMULATED = "emulated"


class PromptOrder(StrEnum):
    """Whose prompt is read first when several wait: as they came (vLLM), or that of the lowest
    slot number (llama.cpp).
    """

    FCFS = "fcfs"
    SLOT = "slot"


@dataclass(frozen=True, slots=True)
class TokenProfile:
    """A replica under continuous batching with chunked prefill (SCIENCE, sections 1 and 1b).

    An iteration that carries b decoding sequences with C cached tokens in all, and pieces of
    prompts, lasts

        ``tpot_base_ms`` + ``tpot_ms_per_sequence`` * b + ``tpot_ms_per_cached_token`` * C
        + for each piece ``prefill_ms_per_piece`` + ``prefill_ms_per_token`` * k
                         + ``prefill_ms_per_token2`` * k * (p + k / 2)

    ms: k tokens of a piece, p tokens of its prompt that are cached already. Pieces fill
    ``max_batched_tokens`` - b tokens, in ``prompt_order``; ``prefill_base_ms`` goes by before a
    prompt's first iteration, on no GPU.

    Power P = ``base_w`` + ``w_per_token_s`` * (output tokens/s) while at least one sequence runs,
    ``prefill_w`` in the time that prompts take of an iteration, ``idle_w`` when none runs.
    ``prefill_w_low``, ``prefill_w_high``: where that lies.

    The host draws ``host_awake_w`` or ``host_idle_w`` beside, and ``host_fraction`` of GPU energy.
    ``target_batch`` is the load the replica is meant to run at: it prices long-run energy.

    Of prompts that were read, ``prefix_cache_tokens`` are kept, in blocks of ``prefix_block``: a
    prompt that begins as one of them did is spared as many. 0: the server keeps none.

    ``calibrated_on``: the endpoint whose meter it was fitted to; ``as_of``: until when that was
    read, UTC.
    """

    name: str
    idle_w: float
    base_w: float
    w_per_token_s: float
    tpot_base_ms: float
    tpot_ms_per_sequence: float
    prefill_base_ms: float
    prefill_ms_per_token: float
    prefill_w: float
    max_batch: int
    target_batch: int
    host_fraction: float
    provenance: Provenance
    source: str
    tpot_ms_per_cached_token: float = 0.0
    prefill_ms_per_piece: float = 0.0
    prefill_ms_per_token2: float = 0.0
    prefill_w_low: float = math.nan
    prefill_w_high: float = math.nan
    max_batched_tokens: int = 8192
    prompt_order: PromptOrder = PromptOrder.FCFS
    host_awake_w: float = 0.0
    host_idle_w: float = 0.0
    prefix_cache_tokens: int = 0
    prefix_block: int = 16
    calibrated_on: str = ""
    as_of: str = ""

    def tpot_ms(self, batch: float, cached_tokens: float = 0.0, prompts_ms: float = 0.0) -> float:
        """Mean time per output token at ``batch`` decoding sequences, ms.

        ``cached_tokens``: of all of them together; ``prompts_ms``: what prompts take of an
        iteration on the mean.
        """
        decode_ms = self.tpot_base_ms + self.tpot_ms_per_sequence * batch
        return decode_ms + self.tpot_ms_per_cached_token * cached_tokens + prompts_ms

    def prompt_ms(self, input_tokens: float, cached_tokens: float = 0.0) -> float:
        """What reading a prompt in one piece adds to its iteration, ms; ``cached_tokens``: of its
        beginning, which are not read again."""
        read = input_tokens - cached_tokens
        before = cached_tokens + read / 2.0
        per_token = self.prefill_ms_per_token + self.prefill_ms_per_token2 * before
        return self.prefill_ms_per_piece + per_token * read

    def lone_ttft_ms(self, input_tokens: float, cached_tokens: float = 0.0) -> float:
        """Time to the first token on an idle replica, round trip apart, ms."""
        prompt_ms = self.prompt_ms(input_tokens, cached_tokens)
        return self.prefill_base_ms + self.tpot_base_ms + prompt_ms


@dataclass(frozen=True, slots=True)
class TaskProfile:
    """A backend that is no language model: fixed energy and time per request.

    A request takes ``service_ms`` + ``service_ms_per_in_flight`` * (others in flight); beyond
    ``max_batch`` requests queue. ``energy_j`` is GPU (or device) energy of one request.
    ``calibrated_on``, ``as_of``: as of `TokenProfile`.
    """

    name: str
    energy_j: float
    service_ms: float
    service_ms_per_in_flight: float
    max_batch: int
    host_fraction: float
    provenance: Provenance
    source: str
    calibrated_on: str = ""
    as_of: str = ""


Profile = TokenProfile | TaskProfile

"""What is public of GPUs and of models: power limits, bandwidth, layers. Read by fit_profiles.py.

Cards from NVIDIA's data sheets, models from the `config.json` that their makers publish.
"""

from __future__ import annotations

from typing import NamedTuple


class Card(NamedTuple):
    """One GPU. ``speed``: dense tensor throughput at bf16 over an H100's."""

    limit_w: float
    idle_w: float
    bytes_per_s: float
    speed: float
    batched_tokens: int


# Loaded GPUs without work were seen at 60 to 120 W each. Batched tokens: what vLLM 0.32 takes by
# default (engine/arg_utils.py).
CARDS = {
    "H100": Card(700.0, 90.0, 3.35e12, 1.0, 8192),
    "B200": Card(1000.0, 120.0, 8.0e12, 2250.0 / 989.0, 16384),
    "A100-40GB": Card(400.0, 60.0, 1.555e12, 312.0 / 989.0, 2048),
}
# How much faster prompts are read at fp8 than at bf16. Data sheets say twice; Llama 3.1 405B in
# fp8 read them 1.0 times (H100) and 1.3 times (B200) as fast as bf16 models of its size would.
FP8_SPEED = 1.15


class Attention(NamedTuple):
    """Attention of one model. ``full_layers``: those without a window, which see all tokens.

    ``kv_values``: numbers that one layer caches of one token, keys and values. ``width``: query
    heads times their size. ``split``: whether tensor parallelism divides the cache.
    """

    full_layers: int
    kv_values: int
    width: int
    split: bool = True

    def cached_bytes_per_token(self) -> float:
        """Bytes that each decoding step reads of one cached token, at 16 bits a number."""
        return 2.0 * self.full_layers * self.kv_values

    def work(self) -> float:
        """What attention over one more token costs, in layers times width."""
        return float(self.full_layers * self.width)


def _grouped(layers: int, heads: int, kv_heads: int, size: int) -> Attention:
    return Attention(layers, 2 * kv_heads * size, heads * size)


# Layers with a window (Gemma 2 and 3, gpt-oss, chunks of Llama 4) and state-space layers (Nemotron)
# are left out: what they cost does not grow with a long context.
ATTENTION = {
    "llama-3.1-8b": _grouped(32, 32, 8, 128),
    "llama-3.1-70b": _grouped(80, 64, 8, 128),
    "llama-3.3-70b": _grouped(80, 64, 8, 128),
    "llama-3.1-405b": _grouped(126, 128, 8, 128),
    "llama-4-maverick-17b-128e": _grouped(12, 40, 8, 128),
    "llama-4-scout-17b-16e": _grouped(12, 40, 8, 128),
    "qwen3-8b": _grouped(36, 32, 8, 128),
    "qwen3-14b": _grouped(40, 40, 8, 128),
    "qwen3-32b": _grouped(64, 64, 8, 128),
    "qwen3-30b-a3b": _grouped(48, 32, 4, 128),
    "qwen3-235b-a22b": _grouped(94, 64, 4, 128),
    "qwen3-coder-480b-a35b": _grouped(62, 96, 8, 128),
    "gemma-3-12b": _grouped(8, 16, 8, 256),
    "gemma-3-27b": _grouped(10, 32, 16, 128),
    "nemotron-nano-9b-v2": _grouped(4, 40, 8, 128),
    "nemotron-nano-12b-v2": _grouped(6, 40, 8, 128),
    "gpt-oss-20b": _grouped(12, 64, 8, 64),
    "gpt-oss-120b": _grouped(18, 64, 8, 64),
    # Latent attention: one compressed cache for all heads, the same on every GPU.
    "deepseek-v3.1": Attention(61, 576, 128 * 160, split=False),
    "deepseek-r1": Attention(61, 576, 128 * 160, split=False),
    "gemma-2-2b": _grouped(13, 8, 4, 256),
    "gemma-2-9b": _grouped(21, 16, 8, 256),
    "gemma-2-27b": _grouped(23, 32, 16, 128),
    "phi-3-mini-4k": _grouped(32, 32, 32, 96),
    "phi-3-small-8k": _grouped(32, 32, 8, 128),
    "phi-3-medium-4k": _grouped(40, 40, 10, 128),
    "mistral-7b-v0.3": _grouped(32, 32, 8, 128),
    "mistral-nemo-2407": _grouped(40, 32, 8, 128),
    "mistral-large-2407": _grouped(88, 96, 8, 128),
    "mixtral-8x7b-v0.1": _grouped(32, 32, 8, 128),
    "mixtral-8x22b-v0.1": _grouped(56, 48, 8, 128),
}

# (active, total) billions of parameters of models in the set of 2024, which does not give them.
PARAMS_B = {
    "gemma-2-2b": (2.6, 2.6), "gemma-2-9b": (9.2, 9.2), "gemma-2-27b": (27.2, 27.2),
    "llama-3.1-8b": (8.0, 8.0), "llama-3.1-70b": (70.0, 70.0), "llama-3.1-405b": (405.0, 405.0),
    "phi-3-mini-4k": (3.8, 3.8), "phi-3-small-8k": (7.4, 7.4), "phi-3-medium-4k": (14.0, 14.0),
    "mistral-7b-v0.3": (7.2, 7.2), "mistral-nemo-2407": (12.2, 12.2),
    "mistral-large-2407": (123.0, 123.0),
    "mixtral-8x7b-v0.1": (12.9, 46.7), "mixtral-8x22b-v0.1": (39.1, 140.6),
}  # fmt: skip

"""How many tokens an answer had, where the server does not say.

Two witnesses, each with a log-normal error: the bytes of the answer over the bytes of a token,
learned per model, and the time it took over the time of a token. Where they agree, the count is
their mean by precision. Where they contradict each other, bytes are no measure of this model's
answers (an embedding, an envelope of fixed size), and time decides alone: it is what energy is
made of. Unless bytes have proved to be a measure, and are too few: an answer can be held up, but
not be made in no time. `benchmarks/receipts.py` measures how far both are from the truth.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Container, Iterable
from typing import NamedTuple

from router.core.latency import Z95
from router.core.learned import MOST_LESSONS, BytesLearned, all_within
from router.model import TokensKind

# Four bytes a token is the common rule of thumb for English text (OpenAI help centre, "What are
# tokens and how to count them?"), and what an int32 token id takes. Other languages, code and
# other tokenizers lie between 2 and 8.
PRIOR_BYTES = 4.0
_PRIOR_SD = 0.4
_SD_BOUNDS = (0.1, 3.0)
# Time per token of an answer about what is predicted at its load: within 5 % where the profile is
# right (`benchmarks/receipts.py`). The interval is for profiles that are not: twofold either way.
_TIME_SD = 0.45
# Beyond so many standard deviations between the two, one of them measures something else.
_CONTRADICTION_SDS = 3.0
# Bytes that scatter no more than this have proved to be a measure.
PROVEN_SD = 0.2

# A running median takes a step towards each observation, however far off that is: one answer, or
# less than half of them, cannot carry it away. First steps are long, later ones a memory; those of
# the scatter are never long, for a few answers prove nothing.
_FIRST_STEP = 1.0
_STEP = 0.02
_MOST_SCATTER_STEP = 0.1
_LOG_BOUNDS = (math.log(0.25), math.log(1e7))
_SD_OF_MEDIAN_DEVIATION = 1.4826  # of a normal distribution
# Of shorter answers a sign more or less is much of their bytes.
_TELLING_TOKENS = 8.0
_MAX_MODELS = 4096
# Prompts of each tenant that teach what unknown tenants start from.
SHARED_LESSONS = 4
_RANGES = (_LOG_BOUNDS, _SD_BOUNDS, (1.0, float(MOST_LESSONS)))


class TokenCount(NamedTuple):
    """Output tokens of a request, with a 90 % interval, and how they are known."""

    tokens: float
    low: float
    high: float
    kind: TokensKind


class TokenBytes(NamedTuple):
    """Bytes of text per token: median and standard deviation of its logarithm."""

    log_median: float
    sd: float

    def tokens(self, text_bytes: float) -> float:
        """Of so many bytes, by the median."""
        return text_bytes / math.exp(self.log_median)


UNLEARNED = TokenBytes(math.log(PRIOR_BYTES), _PRIOR_SD)


class TokenBytesModel:
    """`TokenBytes` of every model, learned from texts, all answers or all prompts, whose tokens
    were reported or counted."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[TokenBytes, int]] = OrderedDict()

    def of(self, model: str) -> TokenBytes:
        """As learned so far, else the prior."""
        known = self._known.get(model)
        return UNLEARNED if known is None else known[0]

    def lessons(self, model: str) -> int:
        """Texts that were taken in."""
        known = self._known.get(model)
        return 0 if known is None else known[1]

    def observe(self, model: str, text_bytes: float, tokens: float) -> None:
        """Take in one text; unusable figures and very short texts teach nothing."""
        if not (0.0 < text_bytes < math.inf and _TELLING_TOKENS <= tokens < math.inf):
            return
        (log_median, sd), seen = self._known.get(model) or (UNLEARNED, 0)
        step = max(_STEP, _FIRST_STEP / (seen + 1))
        error = math.log(text_bytes) - math.log(tokens) - log_median
        low, high = _LOG_BOUNDS
        log_median = min(max(log_median + min(max(error, -step), step), low), high)
        wide = abs(error) * _SD_OF_MEDIAN_DEVIATION > sd
        scatter_step = min(step, _MOST_SCATTER_STEP)
        sd *= math.exp(scatter_step if wide else -scatter_step)
        sd = min(max(sd, _SD_BOUNDS[0]), _SD_BOUNDS[1])
        self._known[model] = (TokenBytes(log_median, sd), seen + 1)
        self._known.move_to_end(model)
        if len(self._known) > _MAX_MODELS:
            self._known.popitem(last=False)

    def learned(self) -> tuple[BytesLearned, ...]:
        """All of it, to be kept."""
        return tuple(
            BytesLearned(model, known.log_median, known.sd, seen)
            for model, (known, seen) in self._known.items()
        )

    def restore(self, learned: Iterable[BytesLearned], models: Container[str]) -> None:
        """Go on from what was learned before, of those ``models``; entries that cannot be are left
        out."""
        for one in restorable_bytes(learned, models):
            self._known[one.model] = (TokenBytes(one.log_median, one.sd), one.lessons)


def restorable_bytes(
    learned: Iterable[BytesLearned], models: Container[str]
) -> tuple[BytesLearned, ...]:
    """Of what was learned elsewhere, what can be, of those ``models``."""
    return tuple(
        one
        for one in learned
        if one.model in models
        and all_within((one.log_median, one.sd, float(min(one.lessons, 2 * MOST_LESSONS))), _RANGES)
    )


class PromptBytesModel:
    """`TokenBytes` of prompts, by model and tenant: what one tenant asks, code or Chinese, says
    nothing of what another does. Of each only the first few teach what unknown ones start from.

    Requests without a tenant are one tenant's.
    """

    def __init__(self) -> None:
        self._shared = TokenBytesModel()
        self._known: OrderedDict[tuple[str, str], TokenBytesModel] = OrderedDict()
        self._lessons: dict[tuple[str, str], int] = {}

    def of(self, model: str, tenant: str) -> TokenBytes:
        """As learned of this tenant so far, else of those before it."""
        own = self._known.get((model, tenant))
        return (self._shared if own is None else own).of(model)

    def observe(self, model: str, tenant: str, text_bytes: float, tokens: float) -> None:
        """Take in one prompt; as `TokenBytesModel.observe`."""
        if not (0.0 < text_bytes < math.inf and _TELLING_TOKENS <= tokens < math.inf):
            return
        key = (model, tenant)
        own = self._known.get(key)
        if own is None:
            own = self._known[key] = TokenBytesModel()
            own.restore(self._shared.learned(), (model,))
            self._lessons[key] = 0
            if len(self._known) > _MAX_MODELS:
                gone, _ = self._known.popitem(last=False)
                del self._lessons[gone]
        self._known.move_to_end(key)
        if self._lessons[key] < SHARED_LESSONS:
            self._lessons[key] += 1
            self._shared.observe(model, text_bytes, tokens)
        own.observe(model, text_bytes, tokens)

    def learned(self) -> tuple[BytesLearned, ...]:
        """What unknown tenants start from, to be kept; where no tenants are named, all of it."""
        nobody = {model: own for (model, tenant), own in self._known.items() if not tenant}
        shared = (one for one in self._shared.learned() if one.model not in nobody)
        return (*shared, *(one for own in nobody.values() for one in own.learned()))

    def restore(self, learned: Iterable[BytesLearned], models: Container[str]) -> None:
        """As `TokenBytesModel.restore`."""
        self._shared.restore(learned, models)


def known_count(count: float, kind: TokensKind) -> TokenCount:
    """A count that needs no interval."""
    return TokenCount(count, count, count, kind)


def estimate_tokens(
    output_bytes: float,
    bytes_per_token: TokenBytes,
    token_ms: float,
    decode_ms: float,
    most_decode_ms: float,
    most: float,
) -> TokenCount:
    """From the answer's bytes (NaN: not known) and its time. 1 to ``most`` tokens.

    ``token_ms``: predicted time per token; ``decode_ms``: what is left of the answer's time after
    round trip and prefill, ``most_decode_ms`` if those took nothing.
    """
    by_time = max(decode_ms / token_ms, 1.0)
    sd, kind = _TIME_SD, TokensKind.ASSUMED
    log_count = math.log(by_time)
    log_ceiling = max(log_count, math.log(max(most_decode_ms / token_ms, 1.0)))
    if output_bytes > 0.0:
        difference = math.log(output_bytes) - bytes_per_token.log_median - log_count
        variance = _TIME_SD**2 + bytes_per_token.sd**2
        if difference * difference <= _CONTRADICTION_SDS**2 * variance:
            log_count += difference * (_TIME_SD**2 / variance)
            sd *= bytes_per_token.sd / math.sqrt(variance)
            kind = TokensKind.ESTIMATED
            log_ceiling = log_count
        elif difference < 0.0 and bytes_per_token.sd <= PROVEN_SD:
            log_count = log_ceiling = max(log_count + difference, 0.0)
            sd, kind = bytes_per_token.sd, TokensKind.ESTIMATED
    spread = Z95 * sd
    count = min(math.exp(log_count), most)
    return TokenCount(
        max(count, 1.0),
        max(min(math.exp(log_count - spread), most), 1.0),
        max(min(math.exp(max(log_count, log_ceiling) + spread), most), 1.0),
        kind,
    )


def tokens_by_time(
    token_ms: float, decode_ms: float, most_decode_ms: float, most: float
) -> TokenCount:
    """Of an answer that was cut short and nothing was seen of: 0 to ``most`` tokens.

    Arguments as of `estimate_tokens`. The interval begins at none: the request may have waited all
    the time, or its server hung.
    """
    tokens = min(max(0.0, decode_ms / token_ms), most)
    high = min(max(0.0, most_decode_ms / token_ms) * math.exp(Z95 * _TIME_SD), most)
    return TokenCount(tokens, 0.0, max(high, tokens), TokensKind.ASSUMED)

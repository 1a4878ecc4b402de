"""One answer of an emulated HTTP server: whole as JSON, or as server-sent events."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple
from uuid import uuid4

from router.lab.emulator.http.asked import HttpAsk
from router.lab.replay.replica import Ended
from router.units import MS_PER_S

# A token of what an answer goes on with after it said what it is: 4 bytes, as `BYTES_PER_TOKEN`.
_FILLER = " ..."


class TokenCounts(NamedTuple):
    """Tokens of a prompt, of those that were not read, and of its answer up to now."""

    input: int
    cached: int
    output: int

    @classmethod
    def of(cls, record: Ended) -> TokenCounts:
        """What the machine did."""
        cached, made = record.cached_tokens, record.output_tokens
        return cls(math.ceil(record.input_tokens), int(cached), math.ceil(made))


class AnswerText:
    """``marker`` in as many pieces as the answer has ``tokens``: word by word, then filler."""

    def __init__(self, marker: str, tokens: float) -> None:
        words = re.findall(r"\S+\s*", marker)
        self.tokens = math.ceil(tokens)
        if self.tokens < len(words):
            words[self.tokens - 1 :] = ["".join(words[self.tokens - 1 :])]
        self._words = words

    def between(self, made: int, now: int) -> str:
        """What its tokens say, but for the first ``made``, up to ``now`` of them."""
        filler = now - max(made, len(self._words))
        return "".join(self._words[made:now]) + _FILLER * max(0, filler)


def event(data: dict[str, Any], name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def timing_metrics(record: Ended) -> dict[str, float]:
    """``metrics`` as vLLM 0.32 has it with ``--enable-per-request-metrics``, ms: its time to the
    first token begins when the queue ends."""
    decoding_ms = (record.at - record.first_token_at) * MS_PER_S
    metrics = {
        "time_to_first_token_ms": (record.first_token_at - record.started_at) * MS_PER_S,
        "generation_time_ms": decoding_ms,
        "queue_time_ms": (record.started_at - record.admitted_at) * MS_PER_S,
        "tokens_per_second": record.output_tokens / (record.at - record.started_at),
    }
    if record.output_tokens > 1.0:
        metrics["mean_itl_ms"] = decoding_ms / (record.output_tokens - 1.0)
    return metrics


class Reply(ABC):
    """The answer to one request, in the shape of its API. ``created``: unix seconds; ``told``: the
    run of which it tells where the time went, None where it does not."""

    prefix: ClassVar[str]

    def __init__(self, asked: HttpAsk, created: float) -> None:
        self.asked = asked
        self.told: Ended | None = None
        self.id = f"{self.prefix}{uuid4().hex}"
        self.created = int(created)

    @abstractmethod
    def whole(self, text: str, counts: TokenCounts) -> dict[str, Any]:
        """All of it as JSON."""

    @abstractmethod
    def opening(self, counts: TokenCounts) -> bytes:
        """What a stream of it begins with."""

    @abstractmethod
    def piece(self, text: str) -> bytes:
        """The event of some text."""

    @abstractmethod
    def closing(self, text: str, counts: TokenCounts) -> tuple[bytes, bytes]:
        """What a stream ends with: up to the event that ends it, and that one."""

    def limited(self, counts: TokenCounts) -> bool:
        """Whether its limit ended the answer."""
        return counts.output >= self.asked.work.max_tokens

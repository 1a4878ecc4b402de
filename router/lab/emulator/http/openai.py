"""Chat completions, completions and embeddings as OpenAI has them."""

from __future__ import annotations

import base64
import random
import struct
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from router.lab.emulator.http.asked import HttpAsk
from router.lab.emulator.http.refusals import ErrorAnswer
from router.lab.emulator.http.reply import Reply, TokenCounts, event, timing_metrics

# Numbers of an embedding, without `dimensions` and at most.
DIMENSIONS: Final = 384
MOST_DIMENSIONS: Final = 8192
# Field of answers that tells which server made them.
FINGERPRINT: Final = "emulated"
_DONE: Final = b"data: [DONE]\n\n"


def usage(counts: TokenCounts) -> dict[str, Any]:
    """Tokens, in the names that chat and completions have."""
    return {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
        "prompt_tokens_details": {"cached_tokens": counts.cached},
    }


class _Choices(Reply):
    """What chat and completions share: one choice, and chunks of it."""

    kind: str
    chunk_kind: str

    def whole(self, text: str, counts: TokenCounts) -> dict[str, Any]:
        reason = "length" if self.limited(counts) else "stop"
        choice = {"index": 0, **self._all(text), "logprobs": None, "finish_reason": reason}
        head = self._head(self.kind)
        return {**head, "choices": [choice], "usage": usage(counts), **self._timing()}

    def piece(self, text: str) -> bytes:
        return self._chunk(self._part(text))

    def closing(self, text: str, counts: TokenCounts) -> tuple[bytes, bytes]:
        last = self._chunk(self._part(""), "length" if self.limited(counts) else "stop")
        if self.asked.include_usage:
            told = {**self._head(self.chunk_kind), "choices": [], "usage": usage(counts)}
            last += event({**told, **self._timing()})
        return last, _DONE

    def _chunk(self, part: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": reason}
        chunk = {**self._head(self.chunk_kind), "choices": [choice]}
        return event({**chunk, "usage": None} if self.asked.include_usage else chunk)

    def _timing(self) -> dict[str, Any]:
        return {} if self.told is None else {"metrics": timing_metrics(self.told)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.asked.model,
            "system_fingerprint": FINGERPRINT,
        }

    @abstractmethod
    def _all(self, text: str) -> dict[str, Any]:
        """The choice of an answer in one piece."""

    @abstractmethod
    def _part(self, text: str) -> dict[str, Any]:
        """The choice of one event."""


class ChatReply(_Choices):
    """``/v1/chat/completions``."""

    prefix = "chatcmpl-"
    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    def opening(self, counts: TokenCounts) -> bytes:
        return self._chunk({"delta": {"role": "assistant", "content": ""}})

    def _all(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _part(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}


class CompletionReply(_Choices):
    """``/v1/completions``."""

    prefix = "cmpl-"
    kind = chunk_kind = "text_completion"

    def opening(self, counts: TokenCounts) -> bytes:
        return b""

    def _all(self, text: str) -> dict[str, Any]:
        return {"text": text}

    _part = _all


def embeddings(asked: HttpAsk, inputs: Sequence[bytes], counts: TokenCounts) -> dict[str, Any]:
    """A vector of length 1 for each of ``inputs``, the same for the same bytes.

    Raises ErrorAnswer for ``dimensions`` or ``encoding_format`` that cannot be had.
    """
    size, encoding = embedding_form(asked)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(one, size, encoding)}
        for index, one in enumerate(inputs)
    ]
    told = {"prompt_tokens": counts.input, "total_tokens": counts.input}
    return {"object": "list", "data": data, "model": asked.model, "usage": told}


def embedding_form(asked: HttpAsk) -> tuple[int, str]:
    """``dimensions`` and ``encoding_format`` of a request. Raises ErrorAnswer."""
    size = asked.body.get("dimensions", DIMENSIONS)
    if type(size) is not int or not 1 <= size <= MOST_DIMENSIONS:
        text = f"dimensions: must be from 1 to {MOST_DIMENSIONS}"
        raise ErrorAnswer(400, text, "dimensions")
    encoding = asked.body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise ErrorAnswer(400, "encoding_format: float or base64", "encoding_format")
    return size, encoding


def _encoded(text: bytes, size: int, encoding: str) -> str | list[float]:
    rng = random.Random(text)
    values = [rng.gauss(0.0, 1.0) for _ in range(size)]
    norm = sum(value * value for value in values) ** 0.5
    packed = struct.pack(f"<{size}f", *(value / norm for value in values))
    if encoding == "base64":
        return base64.b64encode(packed).decode()
    return list(struct.unpack(f"<{size}f", packed))

"""``/v1/messages`` as Anthropic has it. Its ``input_tokens`` leave out those that were cached."""

from __future__ import annotations

from typing import Any

from router.lab.emulator.http.reply import Reply, TokenCounts, event


class MessageReply(Reply):
    """One message of one block of text."""

    prefix = "msg_"

    def whole(self, text: str, counts: TokenCounts) -> dict[str, Any]:
        content = [{"type": "text", "text": text}]
        return self._message(content, self._stop_reason(counts), counts)

    def opening(self, counts: TokenCounts) -> bytes:
        start = {"type": "message_start", "message": self._message([], None, counts)}
        block = {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        }
        return _named(start) + _named(block)

    def piece(self, text: str) -> bytes:
        delta = {"type": "text_delta", "text": text}
        return _named({"type": "content_block_delta", "index": 0, "delta": delta})

    def closing(self, text: str, counts: TokenCounts) -> tuple[bytes, bytes]:
        delta = {"stop_reason": self._stop_reason(counts), "stop_sequence": None}
        stop = {"type": "content_block_stop", "index": 0}
        end = {"type": "message_delta", "delta": delta, "usage": _usage(counts)}
        return _named(stop) + _named(end), _named({"type": "message_stop"})

    def _message(
        self, content: list[dict[str, Any]], stop_reason: str | None, counts: TokenCounts
    ) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.asked.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": _usage(counts),
        }

    def _stop_reason(self, counts: TokenCounts) -> str:
        return "max_tokens" if self.limited(counts) else "end_turn"


def _usage(counts: TokenCounts) -> dict[str, Any]:
    return {
        "input_tokens": counts.input - counts.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": counts.output,
    }


def _named(data: dict[str, Any]) -> bytes:
    return event(data, data["type"])

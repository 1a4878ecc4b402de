"""``/v1/responses`` as OpenAI has it, and the memory of those that a later one may go on with."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final, NamedTuple
from uuid import uuid4

from router.lab.emulator.http.asked import HttpAsk
from router.lab.emulator.http.reply import Reply, TokenCounts, event, timing_metrics

# What is remembered: so many responses, and so many bytes of their conversations.
MOST_KEPT: Final = 1_000
MOST_KEPT_BYTES: Final = 64 * 1024 * 1024


class KeptResponse(NamedTuple):
    """``body``: as it was answered. ``conversation``: what a later one goes on with."""

    body: dict[str, Any]
    conversation: bytes


class ResponseMemory:
    """Responses by id; the oldest are forgotten first."""

    def __init__(self, most: int = MOST_KEPT, most_bytes: int = MOST_KEPT_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, KeptResponse] = OrderedDict()
        self._bytes = 0

    def keep(self, response: KeptResponse) -> None:
        """Remember one, which may cost others their place."""
        self._kept[response.body["id"]] = response
        self._bytes += len(response.conversation)
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.conversation)

    def get(self, response_id: str) -> KeptResponse | None:
        """The one with this id, if it is still there."""
        return self._kept.get(response_id)

    def forget(self, response_id: str) -> bool:
        """Whether it was there."""
        response = self._kept.pop(response_id, None)
        if response is None:
            return False
        self._bytes -= len(response.conversation)
        return True


class ResponseReply(Reply):
    """One response of one message."""

    prefix = "resp_"

    def __init__(self, asked: HttpAsk, created: float) -> None:
        super().__init__(asked, created)
        self._item_id = f"msg_{uuid4().hex}"
        self._sequence = -1

    def whole(self, text: str, counts: TokenCounts) -> dict[str, Any]:
        limited = self.limited(counts)
        status = "incomplete" if limited else "completed"
        usage = {
            "input_tokens": counts.input,
            "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": 0},
            "output_tokens": counts.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counts.input + counts.output,
        }
        return {
            **self._head(status),
            "incomplete_details": {"reason": "max_output_tokens"} if limited else None,
            "output": [self._item(status, [_part(text)])],
            "usage": usage,
            **({} if self.told is None else {"metrics": timing_metrics(self.told)}),
        }

    def opening(self, counts: TokenCounts) -> bytes:
        begun = self._head("in_progress")
        item = self._item("in_progress", [])
        return (
            self._event("response.created", response=begun)
            + self._event("response.in_progress", response=begun)
            + self._event("response.output_item.added", output_index=0, item=item)
            + self._event("response.content_part.added", **self._place(), part=_part(""))
        )

    def piece(self, text: str) -> bytes:
        place = self._place()
        return self._event("response.output_text.delta", **place, delta=text, logprobs=[])

    def closing(self, text: str, counts: TokenCounts) -> tuple[bytes, bytes]:
        body = self.whole(text, counts)
        place, item = self._place(), body["output"][0]
        before = (
            self._event("response.output_text.done", **place, text=text, logprobs=[])
            + self._event("response.content_part.done", **place, part=_part(text))
            + self._event("response.output_item.done", output_index=0, item=item)
        )
        return before, self._event(f"response.{body['status']}", response=body)

    def _head(self, status: str) -> dict[str, Any]:
        asked = self.asked.body
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.get("instructions"),
            "max_output_tokens": asked.get("max_output_tokens"),
            "metadata": asked.get("metadata") or {},
            "model": self.asked.model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": asked.get("previous_response_id"),
            "store": asked.get("store") is not False,
            "tool_choice": asked.get("tool_choice") or "auto",
            "tools": asked.get("tools") or [],
            "usage": None,
        }

    def _item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._item_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._sequence += 1
        return event({"type": kind, "sequence_number": self._sequence, **fields}, kind)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

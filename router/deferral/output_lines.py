"""Lines of a batch's output and error files, in OpenAI's shape.

Files are written from what the queue has: however often that is begun anew, each line of the input
has one line in one of them.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from router.deferral.values import (
    CANCELLED,
    EXPIRED,
    NO_SUMS,
    BadLine,
    BatchSums,
    JobOutcome,
    StoredLine,
)
from router.model import Receipt

_UNANSWERED: Final = {
    EXPIRED: "This request could not be executed before the completion window expired.",
    CANCELLED: "This request was not executed because the batch was cancelled.",
}
_BAD: Final = msgspec.json.Decoder(BadLine)


class _Kept(msgspec.Struct, frozen=True):
    """A line, but for its id and custom_id, which are in columns of their own."""

    response: Any
    error: Any
    carbon: Any = msgspec.UNSET


_KEPT: Final = msgspec.json.Decoder(_Kept)


def answered(
    status: int,
    request_id: str,
    body: bytes,
    carbon: dict[str, Any] | None = None,
    sums: BatchSums = NO_SUMS,
) -> JobOutcome:
    """What came of a job that was answered, well or not: an answer of 2xx belongs in the output
    file. ``body``: JSON, or any other text, which becomes a string; ``carbon``: what the answer
    took, if that is known."""
    response = {"status_code": status, "request_id": request_id, "body": _json(body)}
    kept = _Kept(response, None, msgspec.UNSET if carbon is None else carbon)
    return JobOutcome(200 <= status < 300, msgspec.json.encode(kept), sums)


def failed(code: str, message: str) -> JobOutcome:
    """Of a job that no server answered."""
    kept = _Kept(None, {"code": code, "message": message})
    return JobOutcome(False, msgspec.json.encode(kept))


def written(batch_id: str, line: StoredLine) -> bytes:
    """One line of a file, with what ends it."""
    told: dict[str, Any] = {
        "id": f"{batch_id}_req_{line.line}",
        "custom_id": line.custom_id or None,
    }
    if line.code in _UNANSWERED:
        told["response"] = None
        told["error"] = {"code": line.code, "message": _UNANSWERED[line.code]}
    elif line.code:
        bad = _BAD.decode(line.document or b"")
        told["custom_id"] = bad.custom_id or None
        told["response"] = None
        told["error"] = {"code": bad.error.code, "message": bad.error.message,
                         "line": bad.error.line, "param": bad.error.param}  # fmt: skip
    else:
        kept = _KEPT.decode(line.document or b"")
        told["response"], told["error"] = kept.response, kept.error
        if kept.carbon is not msgspec.UNSET:
            told["carbon"] = kept.carbon
    return msgspec.json.encode(told) + b"\n"


def sums_of(receipt: Receipt, saved_g: float = math.nan) -> BatchSums:
    """What an answer adds to its batch; what is not known adds nothing, and is not counted."""

    def known(value: float) -> float:
        return value if math.isfinite(value) else 0.0

    return BatchSums(
        int(known(receipt.input_tokens)), int(known(receipt.output_tokens)),
        known(receipt.gco2e), known(saved_g),
        int(math.isfinite(receipt.gco2e)), int(math.isfinite(saved_g)),
    )  # fmt: skip


def _json(body: bytes) -> Any:
    try:
        return msgspec.Raw(body) if msgspec.json.decode(body) is not None else None
    except (ValueError, RecursionError):
        return body.decode(errors="replace")

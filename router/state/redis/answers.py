"""What a server's answers mean; what is no answer to what was asked is told as such.

Something between a gateway and its Redis, or who took a port over, may answer anything; and what
stands under a fleet's prefix, anybody may have written who can.
"""

from __future__ import annotations

from typing import Any, Final

from router.state.redis.failures import UnexpectedAnswerError

# Nobody shares more; Redis itself would take half a gibibyte.
MAX_VALUE_BYTES: Final = 1024 * 1024
# Every value starts with it, so that an empty one is not an absent one where ranges are read.
MARK: Final = b"1"


def value_of(answer: Any) -> bytes | None:
    """What was put, of what GETRANGE answers; None where nothing of ours is."""
    body = _bytes_of(answer)
    if not body.startswith(MARK) or len(body) > MAX_VALUE_BYTES + 1:
        return None
    return body[1:]


def number_of(answer: Any) -> int:
    """What a script answers as digits, for more than Lua holds."""
    try:
        return int(_bytes_of(answer))
    except ValueError:
        raise UnexpectedAnswerError("no number") from None


def room_of(answer: Any) -> dict[str, bytes] | int:
    """The rows of a room by member, or how many bytes it has, where those were too many to send.
    What no gateway can have written is passed over."""
    if not isinstance(answer, list):
        raise UnexpectedAnswerError(f"no room: {type(answer).__name__}")
    if len(answer) == 1:
        return number_of(answer[0])
    if len(answer) % 2:
        raise UnexpectedAnswerError("half a row of a room")
    rows: dict[str, bytes] = {}
    for name, row in zip(answer[::2], answer[1::2], strict=True):
        member, there = _text_of(name), _bytes_of(row)
        if member is not None and len(there) <= 2 * MAX_VALUE_BYTES:
            rows[member] = there.partition(b":")[2]
    return rows


def _text_of(name: Any) -> str | None:
    try:
        return _bytes_of(name).decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return None


def _bytes_of(answer: Any) -> bytes:
    if not isinstance(answer, bytes):
        raise UnexpectedAnswerError(f"no bytes: {type(answer).__name__}")
    return answer

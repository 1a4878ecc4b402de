"""A judge that is a service of the operator's: one POST an answer.

It is sent ``{"alias", "variant", "path", "request", "answer"}``, the last two as they travelled,
and says ``{"accept": true}`` or ``{"accept": false}``.
"""

from __future__ import annotations

from typing import Final

import aiohttp
import msgspec

from router.contract import JudgedAnswer
from router.errors import JudgeError
from router.model import HttpJudge

_MOST_BYTES: Final = 64 * 1024
_OK: Final = 200


class _Question(msgspec.Struct):
    alias: str
    variant: str
    path: str
    request: msgspec.Raw
    answer: msgspec.Raw


class _Verdict(msgspec.Struct):
    accept: bool


_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder(_Verdict).decode
_VALID: Final = msgspec.json.Decoder(msgspec.Raw).decode
# Of JSON that is none, or nested more deeply than is read, also where nothing of it is wanted.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_HEADERS: Final = {"content-type": "application/json", "accept": "application/json"}


async def ask(
    session: aiohttp.ClientSession, judge: HttpJudge, judged: JudgedAnswer, timeout_s: float
) -> bool:
    """What the service says, within ``timeout_s`` and its own time. Raises JudgeError."""
    limit = aiohttp.ClientTimeout(total=min(timeout_s, judge.timeout_s))
    try:
        async with session.post(
            judge.url,
            data=_question(judged),
            headers=_HEADERS,
            timeout=limit,
            allow_redirects=False,
        ) as reply:
            said = await _read(reply)
    except TimeoutError as error:
        raise JudgeError(f"no verdict within {limit.total:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise JudgeError(f"cannot be asked: {type(error).__name__}") from error
    if reply.status != _OK:
        raise JudgeError(f"answered with status {reply.status}, not {_OK}")
    try:
        return _DECODE(said).accept
    except _UNREADABLE as error:
        raise JudgeError('said no {"accept": true} or {"accept": false}') from error


def _question(judged: JudgedAnswer) -> bytes:
    try:
        # What is embedded as it came has to be JSON, or the whole is none.
        request, answer = _VALID(judged.request), _VALID(judged.answer)
    except _UNREADABLE as error:
        raise JudgeError("request or answer is no JSON, or nested too deeply") from error
    return _ENCODE(_Question(judged.alias, judged.variant, judged.path, request, answer))


async def _read(reply: aiohttp.ClientResponse) -> bytes:
    said = b""
    async for piece in reply.content.iter_any():
        said += piece
        if len(said) > _MOST_BYTES:
            raise JudgeError(f"said more than {_MOST_BYTES} bytes")
    return said

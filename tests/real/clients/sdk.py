"""What the scripts of both SDKs share: cases by name, and their outcomes as JSON.

Both SDKs are made by one generator: errors, raw answers and streams look alike.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from outcome import tell

# Not cases; cases that leave work behind; cases with a server of their own.
APART = ("_", "abandon", "scripted")
PARTS_BEFORE_CANCEL = 3
# What a stream that is abandoned would run to.
LONG_TOKENS = 900

TOOL_NAME = "weather"
TOOL_FIELDS = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Oslo", "Lima"]}},
    "required": ["city"],
}


def run(kind: Callable[[str, str, int], Any]) -> None:
    """Print the outcomes of the cases that the command line names, methods of ``kind``.

    The command line: ``URL MODEL RETRIES [CASE ...]``, the URL without a path. Where it names none,
    all that ask the server there and hear it out.
    """
    url, model, retries, *names = sys.argv[1:]
    cases = kind(url, model, int(retries))
    told = {}
    for name in names or [name for name in vars(kind) if not name.startswith(APART)]:
        try:
            value = getattr(cases, name)()
            told[name] = {"value": asyncio.run(value) if inspect.isawaitable(value) else value}
        except Exception as error:
            told[name] = failure(error)
    tell(**told)


def failure(error: Exception) -> dict[str, Any]:
    """What the SDK's error says. Whatever else is raised is a mistake of the script, or of us."""
    if not type(error).__module__.startswith(("openai", "anthropic", "httpx2")):
        raise error
    response = getattr(error, "response", None)
    return {
        "error": type(error).__name__,
        "text": str(error),
        "status": getattr(error, "status_code", None),
        "code": getattr(error, "code", None),
        "type": getattr(error, "type", None),
        "body": getattr(error, "body", None),
        "request_id": getattr(error, "request_id", None),
        "headers": None if response is None else dict(response.headers),
    }


def dump(model: Any) -> dict[str, Any]:
    """What the server said, without what the SDK would add."""
    dumped: dict[str, Any] = model.model_dump(mode="json", exclude_unset=True)
    return dumped


def drain(stream: Iterator[Any]) -> list[dict[str, Any]]:
    return [dump(part) for part in stream]


async def drain_async(stream: AsyncIterator[Any]) -> list[dict[str, Any]]:
    return [dump(part) async for part in stream]


def drained(stream: Iterator[Any]) -> dict[str, Any]:
    """The parts of a stream, and the error that it ended with."""
    parts: list[dict[str, Any]] = []
    try:
        parts.extend(dump(part) for part in stream)
    except Exception as error:
        return {"parts": parts, "ended_with": failure(error)}
    return {"parts": parts, "ended_with": None}


def abandon(stream: Any) -> int:
    """Take a few parts, then close the stream as a caller does that has read enough."""
    taken = 0
    with stream:
        for _ in stream:
            taken += 1
            if taken == PARTS_BEFORE_CANCEL:
                break
    return taken


async def abandon_async(stream: Any) -> int:
    """A task that reads a stream is cancelled in the middle of it."""
    taken = 0
    enough = asyncio.Event()

    async def read() -> None:
        nonlocal taken
        async with stream:
            async for _ in stream:
                taken += 1
                if taken == PARTS_BEFORE_CANCEL:
                    enough.set()
                    # What has come already would be read on without a pause.
                    await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(read())
        await enough.wait()
        reader.cancel()
    return taken

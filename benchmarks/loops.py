"""The event loop that a process of a benchmark runs on: uvloop where it is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Any

HAS_UVLOOP = find_spec("uvloop") is not None


def run(main: Coroutine[Any, Any, Any], plain: bool = False) -> Any:
    """``main``'s result. ``plain``: on asyncio's own loop all the same."""
    if HAS_UVLOOP and not plain:
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)

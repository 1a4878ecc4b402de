"""A clock that stands still until it is moved, and an Http that answers from a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from router.errors import ProviderError


class StillClock:
    """``now`` and ``monotonic`` in seconds; both move with ``at``."""

    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


class Asked(NamedTuple):
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    auth: tuple[str, str] | None


Answer = Callable[[Asked], Any]


class StubHttp:
    """``answer`` returns what the body decodes to, or raises; an error it returns is raised."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []

    async def get_json(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> Any:
        asked = Asked(path, dict(params or {}), dict(headers or {}), auth)
        self.asked.append(asked)
        found = self.answer(asked)
        if isinstance(found, ProviderError):
            raise found
        return found

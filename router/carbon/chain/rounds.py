"""One refresh of a chain: who was asked for which grid zone, and how it went."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from router.carbon.chain.roles import Patient, Trouble, Troubled
from router.carbon.providers.provider import Want
from router.errors import (
    CarbonRouterError,
    DataError,
    NoDataError,
    ProviderAnswerError,
    ProviderUnavailableError,
)
from router.model import Forecast, Intensity

_UNAVAILABLE: Final = ProviderUnavailableError.reason
_NOTHING_NOW: Final = frozenset({NoDataError.reason, ProviderAnswerError.reason})
NO_TROUBLE: Final = Trouble("", "")
NO_VALUE: Final = Trouble(NoDataError.reason, "no value for this grid zone")

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Hop(NamedTuple):
    """One source asked for one grid zone in the last refresh.

    ``ok``: what it gave is used. ``why``: what went wrong, or ""; a source that still serves a
    good value may have failed at the last call. ``code``: the reason of ``why`` in one word.
    ``age_s``: of what it gave, None when it gave nothing.
    """

    source: str
    ok: bool
    why: str
    code: str = ""
    age_s: float | None = None


class Round:
    """One refresh of ``grid_zones`` at ``now``; ``timeout_s`` for a source that sets no other.

    ``answered``: zones that have a fresh observed value; ``ahead``: published forecasts that have
    not expired; ``forecast``: zones of which no other publisher need be asked; ``news``: zones of
    which a past slot came to be known, or was revised.
    """

    def __init__(self, grid_zones: Iterable[str], now: float, timeout_s: float) -> None:
        self.now = now
        self.answered: set[str] = set()
        self.forecast: set[str] = set()
        self.news: set[str] = set()
        self.ahead: dict[str, Forecast] = {}
        self._timeout_s = timeout_s
        self._hops: dict[str, tuple[list[Hop], list[Hop]]] = {z: ([], []) for z in grid_zones}

    def hops(self) -> Mapping[str, tuple[Hop, ...]]:
        """Per grid zone who was asked, values before forecasts, each in the chain's order."""
        return {zone: (*read, *ahead) for zone, (read, ahead) in self._hops.items()}

    def note(self, zone: str, want: Want, hop: Hop) -> None:
        """A source was asked."""
        self._hops[zone][want is Want.FORECAST].append(hop)

    def offer(self, zone: str, name: str, issue: Forecast, trouble: Trouble) -> None:
        """A publisher has a forecast; ``trouble``: of its last call.

        One that could not be asked lately may have something old: the next one is asked too, and
        the newer of both counts.
        """
        first = issue.slots[0]
        age_s = first.age_s(self.now)
        if all(slot.expires_at <= self.now for slot in issue.slots):
            why = f"expired: {trouble.text}" if trouble.text else "expired"
            self.note(zone, Want.FORECAST, Hop(name, False, why, trouble.code or "stale", age_s))
            return
        before = self.ahead.get(zone)
        if before is not None and before.slots[0].observed_at >= first.observed_at:
            why = trouble.text or f"older than that of {before.slots[0].source}"
            self.note(zone, Want.FORECAST, Hop(name, False, why, trouble.code or "stale", age_s))
            return
        ahead = self._hops[zone][1]
        ahead[:] = [hop._replace(ok=False) for hop in ahead]
        self.note(zone, Want.FORECAST, Hop(name, True, trouble.text, trouble.code, age_s))
        self.ahead[zone] = issue
        if not trouble.failed:
            self.forecast.add(zone)

    async def call(
        self,
        source: object,
        name: str,
        want: Want,
        call: Callable[[], Awaitable[Mapping[str, _T]]],
        zones: Sequence[str],
    ) -> Mapping[str, _T]:
        """The answers for ``zones``; whatever is missing becomes a hop of its zone."""
        if not zones:
            return {}
        timeout_s = source.timeout_s if isinstance(source, Patient) else self._timeout_s
        found: Mapping[str, _T] = {}
        try:
            async with asyncio.timeout(timeout_s):
                answer = await call()
            found = {zone: answer[zone] for zone in zones if zone in answer}
            trouble = NO_VALUE
        except TimeoutError:
            trouble = Trouble(ProviderUnavailableError.reason, f"no answer within {timeout_s:g} s")
        except (DataError, OSError) as error:
            code = error.reason if isinstance(error, CarbonRouterError) else _UNAVAILABLE
            trouble = Trouble(code, f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Raised by the source itself: passed on, it would end the caller's task without a word.
            trouble = Trouble(_UNAVAILABLE, "cancelled itself")
        except Exception as error:
            # A defect of one source must not silence the others.
            _log.exception("carbon source %s failed in a way it should not", name)
            trouble = Trouble("internal", f"internal error: {type(error).__name__}")
        for zone in zones:
            if zone not in found:
                why = told(source, zone, want) or trouble
                self.note(zone, want, Hop(name, False, why.text, why.code))
        return found


def judged(source: object, name: str, zone: str, value: Intensity, now: float) -> Hop:
    """A usable value: fresh or stale, and what its source says of the last call."""
    trouble = told(source, zone, Want.LATEST) or NO_TROUBLE
    if value.expires_at > now:
        return Hop(name, True, trouble.text, trouble.code, value.age_s(now))
    why = f"stale: {trouble.text}" if trouble.text else "stale"
    return Hop(name, False, why, trouble.code or "stale", value.age_s(now))


def refused(name: str, why: str, value: Intensity, now: float) -> Hop:
    """A value that cannot be used."""
    return Hop(name, False, why, ProviderAnswerError.reason, value.age_s(now))


def told(source: object, zone: str, want: Want) -> Trouble | None:
    """What a source says went wrong when it last asked for a zone."""
    return source.trouble(zone, want) if isinstance(source, Troubled) else None


def silent_of(source: object, zones: Iterable[str]) -> list[str]:
    """The zones that a source answered for when last asked, without a usable newest value.

    It may know the hours before.
    """
    troubles = {zone: told(source, zone, Want.LATEST) for zone in zones}
    return [zone for zone, why in troubles.items() if why and why.code in _NOTHING_NOW]

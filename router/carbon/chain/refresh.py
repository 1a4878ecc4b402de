"""One refresh of a chain: who was asked for which grid zone, and how it went."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from router.carbon.chain.attempt import SourceAttempt
from router.carbon.chain.sources import Polled
from router.carbon.providers.provider import Want
from router.contract import CarbonSource, ForecastSource
from router.errors import (
    CarbonRouterError,
    DataError,
    NoDataError,
    ProviderAnswerError,
    ProviderUnavailableError,
)
from router.model import Forecast, Intensity

_UNAVAILABLE: Final = ProviderUnavailableError.reason
# An attempt is named by its source and what that was called for.
_SUFFIX: Final = {Want.LATEST: "", Want.FORECAST: " forecast", Want.HISTORY: " history"}
_NOTHING_NOW: Final = frozenset({NoDataError.reason, ProviderAnswerError.reason})

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Refresh:
    """One refresh of ``grid_zones`` at ``now``, which calls nobody any more after ``timeout_s``.

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
        self._ends_at = asyncio.get_running_loop().time() + timeout_s
        self._attempts: dict[str, tuple[list[SourceAttempt], list[SourceAttempt]]] = {
            zone: ([], []) for zone in grid_zones
        }

    def attempts(self) -> Mapping[str, tuple[SourceAttempt, ...]]:
        """Per grid zone who was asked, values before forecasts, each in the chain's order."""
        return {zone: (*read, *ahead) for zone, (read, ahead) in self._attempts.items()}

    def note(self, zone: str, want: Want, attempt: SourceAttempt) -> None:
        """A source was asked."""
        self._attempts[zone][want is Want.FORECAST].append(attempt)

    def offer(self, zone: str, issue: Forecast, last: SourceAttempt) -> None:
        """A publisher has a forecast; ``last``: its attempt to have a newer one.

        One that could not be asked lately may have something old: the next one is asked too, and
        the newer of both counts.
        """
        first = issue.slots[0]
        before = self.ahead.get(zone)
        last = last._replace(age_s=first.age_s(self.now))
        if all(slot.expires_at <= self.now for slot in issue.slots):
            why = f"expired: {last.why}" if last.why else "expired"
        elif before is not None and before.slots[0].observed_at >= first.observed_at:
            why = last.why or f"older than that of {before.slots[0].source}"
        else:
            ahead = self._attempts[zone][1]
            ahead[:] = [attempt._replace(ok=False) for attempt in ahead]
            self.note(zone, Want.FORECAST, last._replace(ok=True))
            self.ahead[zone] = issue
            if last.ok:
                self.forecast.add(zone)
            return
        unused = last._replace(ok=False, why=why, code=last.code or "stale")
        self.note(zone, Want.FORECAST, unused)

    async def call(
        self,
        source: CarbonSource | ForecastSource,
        want: Want,
        zones: Sequence[str],
        hours: int,
        read: Callable[[Any], Awaitable[Mapping[str, _T]]],
    ) -> Mapping[str, _T]:
        """What ``read`` finds for ``zones``; whatever is missing becomes an attempt of its zone.

        A polled source first calls for what is due, ``hours`` of it; however that ends, what it
        knows is read.
        """
        if not zones:
            return {}
        known: object = source
        name = f"{source.name}{_SUFFIX[want]}"
        missing = SourceAttempt(name, False, "no value for this grid zone", NoDataError.reason)
        if isinstance(source, Polled):
            due = source.poll(want, zones, self.now, hours)
            _, missing = await self._bounded(due, missing, self._ends_at)
            known = source.known
        answer, missing = await self._bounded(read(known), missing, self._ends_at)
        found = {zone: answer[zone] for zone in zones if answer and zone in answer}
        for zone in zones:
            if zone not in found:
                last = last_attempt(source, zone, want)
                self.note(zone, want, last._replace(ok=False) if last.code else missing)
        return found

    async def turn(
        self, source: str, want: Want, zones: Sequence[str], taken: Awaitable[None]
    ) -> None:
        """A source's turn, with what is made of its answer: a defect there is its failure too, and
        the next ones are asked for all ``zones`` that it was to tell of."""
        _, failed = await self._bounded(
            taken, SourceAttempt(f"{source}{_SUFFIX[want]}", True, ""), None
        )
        if failed.code:
            if not zones:
                _log.error("carbon: %s: %s", source, failed.why)
            for zone in zones:
                self.note(zone, want, failed._replace(ok=False))
            (self.forecast if want is Want.FORECAST else self.answered).difference_update(zones)

    async def _bounded(
        self, call: Awaitable[_T], otherwise: SourceAttempt, ends_at: float | None
    ) -> tuple[_T | None, SourceAttempt]:
        """What ``call`` returned before ``ends_at``, and ``otherwise``, with how it failed if it
        did.

        The one place that keeps a defect of one source from silencing the others.
        """
        try:
            async with asyncio.timeout_at(ends_at):
                return await call, otherwise
        except TimeoutError:
            why, code = f"no answer within {self._timeout_s:g} s", _UNAVAILABLE
        except (DataError, OSError) as error:
            why = f"{type(error).__name__}: {error}"
            code = error.reason if isinstance(error, CarbonRouterError) else _UNAVAILABLE
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Raised by the source itself: passed on, it would end the caller's task without a word.
            why, code = "cancelled itself", _UNAVAILABLE
        except Exception as error:
            _log.exception("carbon source %s failed in a way it should not", otherwise.source)
            why, code = f"internal error: {type(error).__name__}", "internal"
        return None, otherwise._replace(why=why, code=code)


def judged(last: SourceAttempt, value: Intensity, now: float) -> SourceAttempt:
    """A usable value: fresh or stale, and what its source says of the ``last`` call."""
    if value.expires_at > now:
        return last._replace(ok=True, age_s=value.age_s(now))
    why = f"stale: {last.why}" if last.why else "stale"
    return SourceAttempt(last.source, False, why, last.code or "stale", value.age_s(now))


def refused(last: SourceAttempt, why: str, value: Intensity, now: float) -> SourceAttempt:
    """A value that cannot be used."""
    return SourceAttempt(last.source, False, why, ProviderAnswerError.reason, value.age_s(now))


def last_attempt(source: CarbonSource | ForecastSource, zone: str, want: Want) -> SourceAttempt:
    """How it went when a source was last called for a zone; well, unless it says why not."""
    last = source.last_attempt(zone, want) if isinstance(source, Polled) else None
    return (last or SourceAttempt("", True, ""))._replace(source=f"{source.name}{_SUFFIX[want]}")


def silent_of(source: CarbonSource, zones: Iterable[str]) -> list[str]:
    """The zones that a source answered for when last asked, without a usable newest value.

    It may know the hours before.
    """
    return [z for z in zones if last_attempt(source, z, Want.LATEST).code in _NOTHING_NOW]

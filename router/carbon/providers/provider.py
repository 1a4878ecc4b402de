"""What a live carbon provider is: one fetch, in the provider's own words turned into ours.

A provider knows its API and nothing else: when to ask, how often, whom to ask next and what to do
without an answer are decided by ``router.carbon.polling.source`` and ``router.carbon.chain.chain``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from router.carbon.providers.rows import Dropped
from router.errors import ProviderError
from router.model import Forecast, Intensity, Signal


class Want(StrEnum):
    """What a fetch is for. A provider may return more than was wanted, never less."""

    LATEST = "latest"
    FORECAST = "forecast"
    HISTORY = "history"


class Reading(NamedTuple):
    """What one provider said of one grid zone.

    ``observed``: measured or estimated values, oldest first, ``observed_at`` the end of each slot;
    a slot that ends after ``now`` is allowed (it contains ``now``). ``forecast``: the newest issue,
    None where none was wanted or offered; its slots are of kind FORECAST, ``observed_at`` being
    the time of issue, and may be shorter than an hour or fewer than asked, with holes
    (`router.carbon.providers.holes`). ``dropped``: rows of the answer that could not be used.
    """

    observed: tuple[Intensity, ...] = ()
    forecast: Forecast | None = None
    dropped: tuple[Dropped, ...] = ()


class Provider(Protocol):
    """One carbon API. Stateless but for what the API itself demands (a login token)."""

    name: str
    signal: Signal
    grid_zones: frozenset[str]
    wants: frozenset[Want]
    zones_per_call: int
    publishes_every_s: float

    async def fetch(
        self, grid_zones: Sequence[str], want: Want, now: float, hours: int
    ) -> Mapping[str, Reading | ProviderError]:
        """At most ``zones_per_call`` zones of ``grid_zones``, as few HTTP calls as possible.

        ``hours``: horizon of a forecast or depth of a history. A zone with an answer that cannot
        be used maps to the error that says why; raises ProviderError when no zone was answered.
        """
        ...


class Http(Protocol):
    """One provider's HTTP: timeouts, limits on calls, and failures as ProviderError leaves."""

    async def get_json(
        self, path: str, *, params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None, auth: tuple[str, str] | None = None,
    ) -> Any:  # fmt: skip
        """The decoded body. ``path`` is joined to the provider's base URL; ``auth``: HTTP Basic.

        Raises ProviderRefusedError (401, 403), NoDataError (404), ProviderBusyError (429),
        ProviderUnavailableError (timeout, connection, TLS, 5xx), ProviderAnswerError (any other
        status, truncated or invalid JSON), CallBudgetError (not asked at all).
        """
        ...

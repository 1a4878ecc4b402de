"""Who looks on at one process, by what they may see; of each what it was told last."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from router.config.settings import Config
from router.console.feed import Feed
from router.console.recent import RecentScenes
from router.console.scene import Scope
from router.console.traffic import OwnTotals
from router.telemetry.view import Json

# Who comes back within so long goes on where it was.
LINGER_S: Final = 30.0
# Of what is kept to go back to: for operators, and for each tenant.
_KEPT_BYTES: Final = 8 * 2**20
_KEPT_BYTES_OF_A_TENANT: Final = 2**20


@dataclass(slots=True)
class Audience:
    """Those who may see the same. ``own``: what an owner's requests came to; ``recent``: what they
    were shown; ``empty_since``: monotonic s, inf while somebody looks on. Of the last tick:
    ``config``, ``policy``, ``snapshot`` (its version), ``zones``, ``deferred``."""

    feed: Feed
    own: OwnTotals | None
    recent: RecentScenes
    empty_since: float = math.inf
    config: Config | None = None
    policy: str = ""
    snapshot: int = -1
    zones: Json = None
    deferred: Json = None


class Audiences:
    """By scope; those whom nobody is of any more go after LINGER_S."""

    def __init__(self) -> None:
        self.boot = secrets.token_hex(6)
        self._by_scope: dict[Scope, Audience] = {}
        self._feeds = 0

    def __iter__(self) -> Iterator[tuple[Scope, Audience]]:
        return iter(list(self._by_scope.items()))

    def __len__(self) -> int:
        return len(self._by_scope)

    def find(self, scope: Scope) -> Audience | None:
        """None where nobody of it looks on."""
        return self._by_scope.get(scope)

    def join(self, scope: Scope, wall: float) -> Audience:
        """One more of this scope; ``wall``: unix s, since when an owner's requests are counted."""
        audience = self._by_scope.get(scope)
        if audience is None:
            own = None if scope.is_all else OwnTotals(wall)
            # Each begins to count anew: ids of one say nothing of where another is.
            self._feeds += 1
            most = _KEPT_BYTES if scope.is_all else _KEPT_BYTES_OF_A_TENANT
            audience = Audience(Feed(f"{self.boot}.{self._feeds}"), own, RecentScenes(most))
            self._by_scope[scope] = audience
        audience.empty_since = math.inf
        return audience

    def see_off(self, now: float) -> None:
        """Forget whom nobody is of for long enough; ``now``: monotonic s."""
        for scope, audience in self:
            if audience.feed.onlookers:
                audience.empty_since = math.inf
            else:
                audience.empty_since = min(audience.empty_since, now)
            if now - audience.empty_since > LINGER_S:
                del self._by_scope[scope]

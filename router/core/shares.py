"""Whose turn it is when places are scarce: tenants have shares of them by weight. Pure.

Nobody is held back while there is room for what the others are likely to ask for meanwhile. Where
there is not, a tenant that has its share leaves the rest to those who have less: one that floods
is shed before its neighbours, who find a place at once instead of waiting for one to come free.
What nobody else has use for is anybody's (max-min fairness: D. Bertsekas, R. Gallager, Data
Networks, 6.5.2).

How many places tenants have use for is their mean of the last while; how many at once is a Poisson
count with that mean, of which two standard deviations are kept for those who have less than their
share, less what they hold. Until one that found no place though it has less than its share (its
requests may run in few places, or are long) has found one, for a moment at most, nobody who has
more takes any.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core import kernel_rows as k
from router.core.board import Board
from router.core.layout import Layout
from router.errors import ShedError

# What a tenant had under way weighs half as much after so long, s.
_HALF_S: Final = 30.0
# Whoever has had no more than so much under way has no use for a place, on the mean: a request
# that took less than two seconds and is the only one for long finds a place as others do.
_IDLE: Final = 0.05
_DEVIATIONS: Final = 2.0
# For so long, at most, somebody with less than its share goes before those who have more, s: until
# it asks again, when it was told to.
_UNMET_S: Final = 1.5
# How old sums over tenants and endpoints may be, s: strangers may name any number of tenants.
_SUMMED_S: Final = 0.01
_MOST_TENANTS: Final = 1024
_RETRY_S: Final = 1.0


class _Tenant:
    __slots__ = ("_area", "_at", "_since", "held", "mean", "waiting", "weight")

    def __init__(self, now: float) -> None:
        self.held = 0
        self.waiting = 0
        self.weight = 1.0
        # Of what it held and waited for.
        self.mean = 0.0
        self._area = 0.0
        self._since = self._at = now

    def note(self, now: float) -> None:
        """Add up what it had since the last time; before that changes. ``now`` may be a moment
        ago: a request knows when it came."""
        if now > self._at:
            self._area += (self.held + self.waiting) * (now - self._at)
            self._at = now

    def advance(self, now: float) -> None:
        """Have ``mean`` tell of all until now."""
        self.note(now)
        took_s = now - self._since
        if took_s > 0.0:
            kept = math.exp2(-took_s / _HALF_S)
            self.mean = kept * self.mean + (1.0 - kept) * self._area / took_s
            self._area, self._since = 0.0, now


class _Pool:
    """Places of the endpoints that serve one model, at this process."""

    __slots__ = ("_busy", "_caps", "_free", "_held", "_kept", "_summed_at", "_unmet",
                 "_unmet_until", "_weights", "board", "held", "key", "tenants")  # fmt: skip

    def __init__(self, key: tuple[str, str], board: Board) -> None:
        self.key = key
        self.tenants: OrderedDict[str, _Tenant] = OrderedDict()
        self.held = 0
        self._unmet: _Tenant | None = None
        self._unmet_until = -math.inf
        self._summed_at = -math.inf
        self._busy = 0
        self._free = self._kept = self._weights = 0.0
        self._held = 0
        self.adopt(board)

    def adopt(self, board: Board) -> None:
        """Another fleet may be in force."""
        self.board = board
        endpoints = board.layout.candidates[self.key].endpoints
        self._caps: NDArray[np.float64] = np.array([e.max_in_flight for e in endpoints], float)

    def tenant(self, name: str, weight: float, now: float) -> _Tenant:
        found = self.tenants.get(name)
        if found is None:
            found = self.tenants[name] = _Tenant(now)
            if len(self.tenants) > _MOST_TENANTS:
                self._forget()
        found.weight = weight
        self.tenants.move_to_end(name)
        return found

    def refused(self, tenant: _Tenant, now: float) -> None:
        """There was no place for one more of ``tenant``."""
        self._sum(now)
        if tenant.held + 1.0 <= self._share(tenant):
            self._unmet, self._unmet_until = tenant, now + _UNMET_S
            # Its share is the others' no longer.
            self._summed_at = -math.inf

    def took(self, tenant: _Tenant) -> None:
        """``tenant`` is about to take a place."""
        if tenant is self._unmet:
            self._unmet = None

    def admits(self, tenant: _Tenant, now: float) -> bool:
        """Whether one more place is ``tenant``'s to take."""
        if len(self.tenants) == 1:
            return True
        self._sum(now)
        if tenant.held + 1.0 <= self._share(tenant):
            return True
        if self._unmet is not None and now < self._unmet_until:
            return False
        if self._busy <= 1:
            return True
        # Since the sums were made it has changed by what we know of.
        return self._free - (self.held - self._held) >= 1.0 + self._kept

    def share_of(self, tenant: _Tenant, whole: float, now: float) -> float:
        """The part of ``whole`` that is a tenant's, by weight among those who are there."""
        self._sum(now)
        return whole * tenant.weight / max(self._weights, tenant.weight)

    def _share(self, tenant: _Tenant) -> float:
        room = self._held + self._free
        return max(1.0, room * tenant.weight / max(self._weights, tenant.weight))

    def _sum(self, now: float) -> None:
        if now - self._summed_at < _SUMMED_S:
            return
        self._summed_at = now
        if now >= self._unmet_until:
            self._unmet = None
        live = self.board.live(*self.key)
        free = np.maximum(self._caps - live[k.BATCH], 0.0) * live[k.ELIGIBLE]
        self._free, self._held = float(free.sum()), self.held
        busy = []
        for one in self.tenants.values():
            one.advance(now)
            if one.held or one.waiting or one.mean > _IDLE or one is self._unmet:
                busy.append(one)
        self._busy = len(busy)
        self._weights = sum(one.weight for one in busy)
        below = [(one, share) for one in busy if one.held + 1.0 <= (share := self._share(one))]
        mean = sum(min(share, one.mean) for one, share in below)
        wanted = mean + _DEVIATIONS * math.sqrt(mean)
        self._kept = max(0.0, wanted - sum(one.held for one, _ in below))

    def _forget(self) -> None:
        """Drop the one that was there longest ago, of those with nothing under way."""
        for name, one in self.tenants.items():
            if not (one.held or one.waiting):
                del self.tenants[name]
                return


class PlaceClaim:
    """One request's part in it, from `PlaceShares.claim` to `leave`. Times: monotonic, s."""

    __slots__ = ("_holds", "_pool", "_tenant", "_waits")

    def __init__(self, pool: _Pool, tenant: _Tenant) -> None:
        self._pool = pool
        self._tenant = tenant
        self._holds = False
        self._waits = False

    def require(self, now: float) -> None:
        """Raises ShedError where its tenant has its share, and others are to have the rest."""
        if not self._pool.admits(self._tenant, now):
            raise ShedError(
                "places are scarce and this tenant has its share of them: others come first",
                _RETRY_S,
            )

    def refused(self, now: float) -> None:
        """There was no place for it."""
        self._pool.refused(self._tenant, now)

    def take(self, now: float) -> None:
        """It has a place from now on."""
        self.stop_waiting(now)
        self._pool.took(self._tenant)
        self._tenant.note(now)
        self._holds = True
        self._pool.held += 1
        self._tenant.held += 1

    def wait(self, now: float) -> None:
        """It waits for one."""
        self._tenant.note(now)
        self._waits = True
        self._tenant.waiting += 1

    def may_wait(self, waiting: int, most: int, now: float) -> bool:
        """Whether it may be one of ``most`` that wait, where so many do: the second half of these
        is shared out, too."""
        if waiting < most // 2:
            return True
        if waiting >= most:
            return False
        return self._tenant.waiting < self._pool.share_of(self._tenant, most, now)

    def stop_waiting(self, now: float) -> None:
        """It does not wait any more. Calling it twice does nothing."""
        if self._waits:
            self._tenant.note(now)
            self._waits = False
            self._tenant.waiting -= 1

    def leave(self, now: float) -> None:
        """It is over. Calling it twice does nothing."""
        self.stop_waiting(now)
        if self._holds:
            self._tenant.note(now)
            self._holds = False
            self._pool.held -= 1
            self._tenant.held -= 1


class PlaceShares:
    """The places of one process, by model and tenant."""

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._pools: dict[tuple[str, str], _Pool] = {}

    def claim(
        self, board: Board, model: str, version: str, tenant: str, weight: float, now: float
    ) -> PlaceClaim:
        """A request of ``tenant`` for a place that serves ``model``. Raises UnknownModelError."""
        if board.layout is not self._layout:
            self._adopt(board)
        pool = self._pools.get((model, version))
        if pool is None:
            found = board.layout.find(model, version)
            key = (found.model, found.version)
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = _Pool(key, board)
        return PlaceClaim(pool, pool.tenant(tenant, weight, now))

    def _adopt(self, board: Board) -> None:
        self._layout = board.layout
        for key, pool in list(self._pools.items()):
            if key in board.layout.candidates:
                pool.adopt(board)
            else:
                del self._pools[key]

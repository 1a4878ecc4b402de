"""What principals use on Envoy's plane: counted by its workers, limited by this process's part.

Workers take from buckets in memory that they share (source/limits.c). This keeps the rates in force
there, tells the limiter what was asked for, by which the part of each gateway goes
(`router.identity.limit_claims`), and settles what answers took in the end.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
from collections.abc import Callable
from typing import Final

from router.errors import IdentityUnavailableError
from router.identity.limits import Limiter
from router.identity.principal import UNMETERED, Principal
from router.identity.principal_counts import MINUTE_S, PrincipalCounts
from router.planes.envoy.known_file import USES, UseCells

_NS: Final = 1e9
_FULL_RETRY_S: Final = 1.0
# A rate that is limited is above 0, which stands for none.
_LEAST_RATE: Final = 1e-9


class _RowUse:
    """A `SharedUse`: what Envoy's workers count of one principal. A take here and one of theirs in
    the same microsecond may both be let in by what was there for one."""

    def __init__(self, cells: UseCells, monotonic: Callable[[], float]) -> None:
        self._cells = cells
        self._monotonic = monotonic

    @property
    def at_once(self) -> int:
        """See `SharedUse`."""
        at_once: int = self._cells.at_once
        return max(0, at_once)

    def here(self, at_once: int) -> None:
        """See `SharedUse`."""
        self._cells.passed_at_once = at_once

    def take_request(self) -> float:
        """See `SharedUse`."""
        cells = self._cells
        if cells.per_s <= 0.0:
            return 0.0
        from_ns = max(cells.requests_full_ns, self._now_ns())
        wait_s = self._wait_s(from_ns, 1.0, cells.per_s, cells.burst)
        if wait_s == 0.0:
            cells.requests_full_ns = from_ns + int(_NS / cells.per_s)
        return wait_s

    def take_tokens(self, tokens: float) -> float:
        """See `SharedUse`."""
        cells, most = self._cells, self._cells.tokens_per_min
        if most <= 0.0:
            return 0.0
        from_ns = max(cells.tokens_full_ns, self._now_ns())
        wait_s = self._wait_s(from_ns, tokens, most / MINUTE_S, most)
        if wait_s == 0.0:
            cells.tokens_full_ns = from_ns + self._tokens_ns(tokens)
        return wait_s

    def put_tokens(self, tokens: float) -> None:
        """See `SharedUse`."""
        cells = self._cells
        if cells.tokens_per_min > 0.0:
            before = cells.tokens_full_ns
            if tokens < 0.0:
                before = max(before, self._now_ns())
            cells.tokens_full_ns = before - self._tokens_ns(tokens)

    def _tokens_ns(self, tokens: float) -> int:
        return int(tokens * MINUTE_S * _NS / self._cells.tokens_per_min)

    def _now_ns(self) -> int:
        return int(self._monotonic() * _NS)

    def _wait_s(self, from_ns: int, amount: float, per_s: float, burst: float) -> float:
        left_s = (from_ns - self._now_ns()) / _NS
        wait_s = min(amount, burst) / per_s - (burst / per_s - left_s)
        # A nanosecond is what sums are off by.
        return wait_s if wait_s > 1e-9 else 0.0


class PrincipalUses:
    """Rows by principal's name. ``monotonic``: seconds, of the clock of all processes here."""

    def __init__(self, limiter: Limiter, monotonic: Callable[[], float]) -> None:
        self._limiter = limiter
        self._monotonic = monotonic
        self._cells: ctypes.Array[UseCells] = (UseCells * 0)()
        self._rows: dict[str, int] = {}
        self._principals: dict[int, Principal] = {}
        self._by_key: dict[int, int] = {}
        self._seen: dict[int, tuple[int, int, int]] = {}
        self._shared: dict[int, _RowUse] = {}

    def begin(self, cells: ctypes.Array[UseCells]) -> None:
        """From now on in ``cells``; what a process before this one counted there still is."""
        self._cells = cells
        self._by_key = {one.key: row for row, one in enumerate(cells) if one.key}
        for row in self._by_key.values():
            # That process's own requests went with it.
            cells[row].passed_at_once = 0
        self._seen = {row: _counted(cells[row]) for row in self._by_key.values()}

    def forget_requests(self) -> None:
        """Envoy has ended, and its requests with it."""
        for cells in self._cells:
            cells.at_once = 0

    def row_of(self, principal: Principal) -> int:
        """Where its use is counted, with what is in force of its limits; -1 where it has none.
        Raises IdentityUnavailableError where there are too many of them."""
        if principal.limits == UNMETERED:
            return -1
        row = self._rows.get(principal.name)
        if row is None:
            row = self._claim(principal.name)
        self._principals[row] = principal
        self._renew(row, principal)
        return row

    def name_of(self, row: int) -> str:
        """The principal's whose row it is, "" for nobody's."""
        principal = self._principals.get(row)
        return "" if principal is None else principal.name

    def renew(self) -> None:
        """Tell what was asked for since the last time, and put parts of now in force."""
        for row, principal in self._principals.items():
            self._renew(row, principal)

    def settle(self, row: int, reserved: float, used: float) -> None:
        """A request that had ``reserved`` so many tokens took ``used`` of them; NaN: nobody
        knows."""
        if row not in self._principals or not reserved or math.isnan(used):
            return
        cells = self._cells[row]
        if cells.tokens_per_min > 0.0:
            ns_per_token = MINUTE_S * _NS / cells.tokens_per_min
            cells.owed_at_ns = int(self._monotonic() * _NS)
            cells.owed_ns += int((used - reserved) * ns_per_token)

    def _claim(self, name: str) -> int:
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") or 1
        row = self._by_key.get(key)
        if row is None:
            row = self._free()
            # Of somebody else, who has nothing there any more.
            fresh = UseCells(key=key, most_at_once=-1)
            self._cells[row] = fresh
            self._by_key[key] = row
            self._seen[row] = _counted(fresh)
        self._rows[name] = row
        return row

    def _free(self) -> int:
        if len(self._by_key) < USES:
            return len(self._by_key)
        now_ns = self._monotonic() * _NS
        for row, principal in self._principals.items():
            cells = self._cells[row]
            is_full = max(cells.requests_full_ns, cells.tokens_full_ns) < now_ns
            if is_full and not (cells.at_once or cells.passed_at_once):
                del self._principals[row], self._rows[principal.name], self._by_key[cells.key]
                self._shared.pop(row, None)
                self._limiter.part(principal.name)
                return row
        raise IdentityUnavailableError(
            f"{USES} principals with limits are in use, which is as many as Envoy's plane counts",
            _FULL_RETRY_S,
        )

    def _renew(self, row: int, principal: Principal) -> None:
        cells = self._cells[row]
        asked, tokens, refused = now = _counted(cells)
        before = self._seen[row]
        self._seen[row] = now
        peak, cells.peak = cells.peak, cells.at_once
        shared = self._shared.get(row)
        if shared is None:
            shared = self._shared[row] = _RowUse(cells, self._monotonic)
        counts = self._limiter.told(
            principal, asked - before[0], tokens - before[1], peak + refused - before[2], shared
        )  # fmt: skip
        _write_rates(cells, counts)


def _counted(cells: UseCells) -> tuple[int, int, int]:
    return cells.asked, cells.asked_tokens, cells.refused_at_once


def _write_rates(cells: UseCells, counts: PrincipalCounts) -> None:
    limits = counts.limits
    if limits.requests_per_s < math.inf:
        cells.burst = counts.burst
        cells.per_s = max(_LEAST_RATE, counts.per_s)
    else:
        cells.per_s = 0.0
    limited = limits.tokens_per_min < math.inf
    cells.tokens_per_min = max(_LEAST_RATE, counts.tokens_per_min) if limited else 0.0
    at_once = counts.part.at_once
    cells.most_at_once = math.ceil(at_once) if at_once < math.inf else -1

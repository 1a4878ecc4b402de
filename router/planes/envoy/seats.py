"""Which seat of the shared file is whose, while endpoints come and go.

A seat's count is of Envoy's own requests, which outlive tables and this process. So an endpoint
that goes keeps its seat until its last request has ended, and nobody else is given it as long as
any request runs that may have been meant for the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final, NamedTuple

from router.errors import EnvoyPlaneError

# Nobody's: of endpoints that Envoy cannot be told of.
NO_SEAT: Final = 0
# So long a worker of Envoy's may go on by the table before (HOSTS_S of source/shared.c), and then
# some.
LINGER_S: Final = 3.0


class EnvoyHost(NamedTuple):
    """An endpoint as Envoy knows it. ``address``: as Envoy writes it."""

    name: str
    protocol: str
    address: str


class Seats:
    """``capacity``: how many there are; ``rest_s``: the longest that a request may take."""

    def __init__(self, capacity: int, rest_s: float) -> None:
        self._capacity = capacity
        self._rest_s = rest_s
        self._seat_of: dict[EnvoyHost, int] = {}
        # When each that no table names any more was left.
        self._left_s: dict[EnvoyHost, float] = {}
        # Seats, and when each was given up; the oldest first.
        self._free: deque[tuple[int, float]] = deque()
        self.used = NO_SEAT + 1

    def restore(self, places: Iterable[tuple[int, EnvoyHost]], used: int, now: float) -> None:
        """Go on from a table of the process before this one, of whose seats all others may have
        been left just ``now``."""
        self._seat_of = {place: seat for seat, place in places}
        self._left_s = dict.fromkeys(self._seat_of, now)
        self.used = max(used, NO_SEAT + 1)
        taken = set(self._seat_of.values())
        self._free = deque((one, now) for one in range(1, self.used) if one not in taken)

    def __iter__(self) -> Iterator[tuple[EnvoyHost, int]]:
        """All that have a seat, those that leave among them."""
        return iter(self._seat_of.items())

    def of(self, place: EnvoyHost) -> int:
        """Its seat; `NO_SEAT` where it has none."""
        return self._seat_of.get(place, NO_SEAT)

    def admit(self, places: Iterable[EnvoyHost], now: float) -> None:
        """A seat for each. Raises EnvoyPlaneError, and changes nothing, where there are too few."""
        new = [place for place in dict.fromkeys(places) if place not in self._seat_of]
        rested = sum(now - since >= self._rest_s for _, since in self._free)
        if len(new) > rested + self._capacity - self.used:
            raise EnvoyPlaneError(
                f"{len(self._seat_of)} endpoints have seats, {len(new)} more do not fit in "
                f"{self._capacity}: those that left give theirs up after {self._rest_s:g} s"
            )
        for place in new:
            if self._free and now - self._free[0][1] >= self._rest_s:
                self._seat_of[place], _ = self._free.popleft()
            else:
                self._seat_of[place] = self.used
                self.used += 1

    def keep(self, places: Collection[EnvoyHost], now: float) -> None:
        """From ``now`` on tables name these alone: the others leave."""
        named = set(places)
        for place in self._seat_of:
            if place in named:
                self._left_s.pop(place, None)
            else:
                self._left_s.setdefault(place, now)

    def retire(self, in_flight: Callable[[int], int], now: float) -> bool:
        """Give up the seats of those that left and have nothing under way; whether there were
        any."""
        gone = [
            place
            for place, since in self._left_s.items()
            if now - since >= LINGER_S and not in_flight(self._seat_of[place])
        ]
        for place in gone:
            del self._left_s[place]
            self._free.append((self._seat_of.pop(place), now))
        return bool(gone)

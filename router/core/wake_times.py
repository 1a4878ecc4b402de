"""How long replicas take from asked-for to ready, learned from what was asked and what came.

Of each model and region by the hints that were given: one more was wanted than there had been or
had been asked for, and later one more was in service. What is asked for in vain is noticed, too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

Site = tuple[str, str]
"""A model and a region."""

# Of the latest so many; replicas are to be asked for early enough in nine cases of ten.
MOST_TAKEN: Final = 32
_SHARE: Final = 0.9
# Until so many were measured, no less than what was assumed.
_ENOUGH: Final = 3
# Who has not come by then does not come for having been asked.
LONGEST_S: Final = 3600.0
# Asked for in vain: so many times what it takes, and so long at the least.
_IN_VAIN: Final = 3.0
_IN_VAIN_S: Final = 600.0
# After so long they are reckoned with again: somebody may have mended them.
_GIVEN_UP_S: Final = 3600.0
MOST_SITES: Final = 4096


class WakeTime(NamedTuple):
    """``s``: to reckon with; ``measured``: of how many, 0 where it is assumed."""

    s: float
    measured: int


class _Asked:
    """Of one site. ``asked``: since when each that is missing was asked for; ``short_since``: since
    when fewer are there than are wanted, NaN where they are; ``given_up``: how many were wanted in
    vain, until ``given_up_until``. Monotonic seconds."""

    __slots__ = ("asked", "given_up", "given_up_until", "ready", "short_since", "wanted")

    def __init__(self, wanted: int, ready: int) -> None:
        self.wanted = wanted
        self.ready = ready
        self.asked: deque[float] = deque()
        self.short_since = math.nan
        self.given_up = 0
        self.given_up_until = -math.inf


class WakeTimes:
    """``assumed_s``: where nothing was measured."""

    def __init__(self, assumed_s: float) -> None:
        self._assumed_s = assumed_s
        self._asked: dict[Site, _Asked] = {}
        self._taken: dict[Site, deque[float]] = {}

    def note(self, site: Site, wanted: int, ready: int, now: float) -> bool:
        """What is wanted and what is there, ``now`` (monotonic s). Whether it taught anything.

        That a replica went is nobody's asking: one that fails and recovers takes another time than
        one that is started.
        """
        before = self._asked.get(site)
        if before is None:
            self._asked[site] = before = _Asked(wanted, ready)
        taught, came = False, max(0, ready - before.ready)
        for _ in range(min(came, len(before.asked))):
            taught |= self._take(site, now - before.asked.popleft())
        new = wanted - max(before.wanted, before.ready)
        before.asked.extend([now] * max(0, new))
        while len(before.asked) > max(0, wanted - ready):
            before.asked.pop()
        if wanted <= ready:
            before.short_since = math.nan
        elif before.short_since != before.short_since or came:
            before.short_since = now
        before.given_up = max(0, before.given_up - came)
        before.wanted, before.ready = wanted, ready
        if now - before.short_since > max(_IN_VAIN_S, _IN_VAIN * self.expected(site).s):
            before.given_up = max(before.given_up, wanted - ready)
            before.given_up_until = now + _GIVEN_UP_S
        return taught

    def expected(self, site: Site) -> WakeTime:
        """By what was measured there, else of the model elsewhere, else assumed."""
        taken = list(self._taken.get(site, ()))
        if not taken:
            taken = [s for one, all_s in self._taken.items() if one[0] == site[0] for s in all_s]
        if not taken:
            return WakeTime(self._assumed_s, 0)
        taken.sort()
        late_s = taken[math.ceil(_SHARE * len(taken)) - 1]
        if len(taken) < _ENOUGH:
            late_s = max(late_s, self._assumed_s)
        return WakeTime(late_s, len(taken))

    def in_vain(self, site: Site, now: float) -> int:
        """Replicas that were wanted for so long that they are not to be reckoned with."""
        one = self._asked.get(site)
        return one.given_up if one is not None and now < one.given_up_until else 0

    def forget(self, site: Site) -> None:
        """It was taken out of the configuration; what was measured there stays."""
        self._asked.pop(site, None)

    def taken(self) -> Mapping[Site, tuple[float, ...]]:
        """What was measured, s, the latest last."""
        return {site: tuple(all_s) for site, all_s in self._taken.items()}

    def take_up(self, taken: Mapping[Site, Iterable[float]]) -> None:
        """What was measured before, in the place of what is known of those sites."""
        for site, all_s in taken.items():
            self._taken.pop(site, None)
            for s in all_s:
                self._take(site, s)

    def _take(self, site: Site, s: float) -> bool:
        if not 0.0 < s <= LONGEST_S or (site not in self._taken and len(self._taken) >= MOST_SITES):
            return False
        self._taken.setdefault(site, deque(maxlen=MOST_TAKEN)).append(s)
        return True

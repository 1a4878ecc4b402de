"""Rolling means of quality: what tenants were served with, and what the next request has to have.

Of each alias and tenant the window is kept in parts, so a mean is over the parts that it reaches
into. No choice of its own takes the mean of what one process serves below its floor: a request may
have less than the floor only by as much as those before it had more. So a fleet of
processes keeps it, too, without asking one another, and one that starts anew starts with nothing
to spend. When there is more to be had, and when it is spent, goes by the grams of the hours ahead
(`router.core.quality_plan`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from router.model import Alias

PARTS: Final = 24
# Of one process; whoever was served longest ago is forgotten first.
MOST_TENANTS: Final = 4096
# Less than this is rounding.
_NOTHING: Final = 1e-9


Plan: TypeAlias = Callable[[float], float]


class _Window:
    """Counts and sums of one tenant, by part of its window of ``part_s`` each; ``at``: the part
    that is now. ``planned``: its mean quality, as of ``planned_at``."""

    __slots__ = ("at", "counts", "part_s", "planned", "planned_at", "sums")

    def __init__(self, part_s: float, at: int) -> None:
        self.part_s = part_s
        self.at = at
        self.counts = [0] * PARTS
        self.sums = [0.0] * PARTS
        self.planned = 0.0
        self.planned_at: tuple[int, int] | None = None

    def turn(self, at: int) -> None:
        """It is part ``at`` now: those that have left the window are forgotten."""
        for gone in range(self.at + 1, min(at, self.at + PARTS) + 1):
            self.counts[gone % PARTS] = 0
            self.sums[gone % PARTS] = 0.0
        self.at = max(self.at, at)


class Counted(NamedTuple):
    """One request in the mean of its tenant, with ``quality``: where it was counted."""

    window: _Window
    part: int
    quality: float


class QualityMeans:
    """Of one process, by alias and tenant. Pure: the time is an argument."""

    def __init__(self) -> None:
        self._windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()

    def floor(self, alias: Alias, tenant: str, now: float, version: int, plan: Plan) -> float:
        """The least quality that the next request may have at ``now`` (unix s), for the mean of the
        window and for what is planned of the part that is now; 0 where no mean is kept.

        ``plan``: the mean quality of this part, given that of all ahead; ``version``: of what it
        goes by: it is asked once for each, and part."""
        mean = alias.floors_of(tenant).mean
        if not mean:
            return 0.0
        window = self._window(alias, tenant, now)
        counted, total = sum(window.counts), sum(window.sums)
        if window.planned_at != (version, window.at):
            spare = total / counted - mean if counted > 0 else 0.0
            # What is above the mean is there to be spent on as many requests ahead.
            window.planned = plan(mean - spare)
            window.planned_at = (version, window.at)
        part = window.at % PARTS
        of_mean = mean * (counted + 1) - total
        here = window.counts[part]
        of_plan = window.planned
        if here > 0:
            of_plan = window.planned * (here + 1) - window.sums[part]
        return min(max(of_mean, of_plan, 0.0) - _NOTHING, alias.variants[-1].quality)

    def count(self, alias: Alias, tenant: str, quality: float, now: float) -> Counted | None:
        """A request is served with ``quality``. None where no mean is kept."""
        if not alias.floors_of(tenant).mean:
            return None
        window = self._window(alias, tenant, now)
        window.counts[window.at % PARTS] += 1
        window.sums[window.at % PARTS] += quality
        return Counted(window, window.at, quality)

    def take_back(self, counted: Counted) -> None:
        """One that was counted was not served, or not with that quality. Nothing is left to be
        taken off where the window has left that part behind, or was given up itself."""
        window, part, quality = counted
        if part > window.at - PARTS:
            window.counts[part % PARTS] -= 1
            window.sums[part % PARTS] -= quality

    def mean(self, alias: Alias, tenant: str, now: float) -> float | None:
        """Over the window; None where nothing was served."""
        window = self._window(alias, tenant, now)
        counted = sum(window.counts)
        return sum(window.sums) / counted if counted > 0 else None

    def _window(self, alias: Alias, tenant: str, now: float) -> _Window:
        part_s = alias.window_s / PARTS
        at = int(now // part_s)
        key = (alias.name, tenant)
        window = self._windows.get(key)
        if window is None or window.part_s != part_s:
            # Parts of another length are other parts: a reload that changes it begins anew.
            window = self._windows[key] = _Window(part_s, at)
            if len(self._windows) > MOST_TENANTS:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(key)
        window.turn(at)
        return window

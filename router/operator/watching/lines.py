"""Which decisions of a feed are followed, and each but once. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final, NamedTuple

import msgspec

from router.operator.watching.connection import FeedEvent
from router.operator.watching.shapes import FeedDecision, FeedTick, decoded, decoded_list

# The feed tells of a decision again when its answer is there, and from the start after a pause.
_MOST_REMEMBERED: Final = 4096
# The gateway begins with a share of a few percent, and finds the one that it keeps.
_SETTLED_TICKS: Final = 5


class DecisionFilter(NamedTuple):
    """Empty: any. ``reason``: of a refusal, a rung that was relaxed, or a flag."""

    tenant: str = ""
    model: str = ""
    region: str = ""
    reason: str = ""

    def takes(self, one: FeedDecision) -> bool:
        """Whether it is wanted."""
        return (
            self.tenant in ("", one.tenant)
            and self.model in ("", one.model)
            and self.region in ("", one.region)
            and (not self.reason or self.reason in (one.refusal, *one.relaxed, *one.flags))
        )


class DecisionLines:
    """Decisions as they are answered or refused; ``share``: of all, that are told of at all, once
    it ``has_settled``."""

    def __init__(self, wanted: DecisionFilter, patience_ticks: int = 10) -> None:
        """``patience_ticks``: that an answer is waited for before a decision is told without."""
        self.share = 1.0
        self._wanted = wanted
        self._patience = patience_ticks
        self._told: OrderedDict[str, None] = OrderedDict()
        self._waiting: dict[str, tuple[FeedDecision, int]] = {}
        self._ticks = 0
        self.has_settled = False

    def take(self, event: FeedEvent) -> list[FeedDecision]:
        """What is to be told now. Raises DataError."""
        if event.name == "tick":
            self.share = decoded(event.data, FeedTick).decisions.share
            self._ticks += 1
            if self._ticks == _SETTLED_TICKS:
                self.has_settled = True
            return self._overdue()
        if event.name != "decisions":
            return []
        ready = []
        for one in decoded_list(event.data, FeedDecision):
            if one.key in self._told or not self._wanted.takes(one):
                continue
            if one.receipt is not None or one.refusal or len(self._waiting) >= _MOST_REMEMBERED:
                ready.append(one)
                self._tell(one)
            elif one.key not in self._waiting:
                self._waiting[one.key] = (one, self._ticks)
        return ready

    def _overdue(self) -> list[FeedDecision]:
        late = [
            one for one, since in self._waiting.values() if self._ticks - since >= self._patience
        ]
        for one in late:
            self._tell(one)
        return late

    def _tell(self, one: FeedDecision) -> None:
        self._waiting.pop(one.key, None)
        self._told[one.key] = None
        while len(self._told) > _MOST_REMEMBERED:
            self._told.popitem(last=False)


def decision_values(one: FeedDecision) -> dict[str, Any]:
    """For programs."""
    values: dict[str, Any] = msgspec.to_builtins(one)
    return values

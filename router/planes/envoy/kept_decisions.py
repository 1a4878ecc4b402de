"""Decisions of the module's for those who keep some: the record, and whoever looks on.

The module leaves the live columns of some decisions (its sights); all else that `decide` takes is
in the request's record: so each is taken again here bit for bit, as a native one is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core.columns import Snapshot
from router.core.decision_ids import decision_id
from router.core.lengths import Expected
from router.core.pipeline import decision_of
from router.core.seen import Answered, DecisionInput, DecisionKind, KeptDecision, Sight
from router.director import Dispatcher, View
from router.model import Request
from router.planes.envoy.layout import REFUSED, RequestRecord
from router.planes.envoy.record_requests import question_of

# Of one decision: the caller's list of where it may run, and live columns.
Seen = tuple[str, NDArray[np.float64]]
# In `QuestionCells.figures` and `times`.
_NETWORK_J: Final = 3
_SLOT_LEFT_S, _NOW_S = 0, 1


class KeptDecisions:
    """``snapshots``: by version; ``sight``: of a record's number, None of one that is gone."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        identity: str,
        snapshots: Mapping[int, Snapshot],
        sight: Callable[[int], Seen | None],
    ) -> None:
        self._dispatcher = dispatcher
        self._identity = identity
        self._snapshots = snapshots
        self._sight = sight

    def take(self, record: RequestRecord, request: Request, view: View, refusal: str = "") -> None:
        """``refusal``: why it was refused; "" of one that departed."""
        recorder = self._dispatcher.recorder
        snapshot = self._snapshots.get(record.snapshot)
        if recorder is None or snapshot is None or not record.sight:
            return
        seen = self._sight(record.sight)
        if seen is None:
            return
        given = _input(record, request, snapshot, seen)
        if given is None:
            return
        answered, made = Answered(None, refusal), ""
        if record.kind != REFUSED:
            question = question_of(record, request, view._replace(snapshot=snapshot))
            relaxed = snapshot.policy.ladder[: record.rung]
            decision = decision_of(record.found.values(), relaxed, question, snapshot, given.at)
            answered = Answered(decision, "")
            made = decision_id(self._identity, record.decision, record.draw, record.hour)
        kept = KeptDecision(made, DecisionKind.FIRST, 1, Sight(snapshot, given, answered, 1.0))
        share = 1.0 if refusal else recorder.most_share
        recorder.offer(kept, share, given.monotonic)


def _input(
    record: RequestRecord, request: Request, snapshot: Snapshot, seen: Seen
) -> DecisionInput | None:
    """None where the columns are not of the request's candidates."""
    residency, live = seen
    columns = list(snapshot.columns.values())[record.model]
    if live.shape[1] != columns.table.shape[1]:
        return None
    names = (name.strip() for name in residency.lower().split(","))
    figures, times = record.asked.figures, record.asked.times
    return DecisionInput(
        request=request._replace(residency=frozenset(name for name in names if name)),
        expected=Expected(*figures[:_NETWORK_J]),
        live=live,
        cached=None,
        at=snapshot.hour_ends_at - times[_SLOT_LEFT_S],
        monotonic=times[_NOW_S],
        network_j=figures[_NETWORK_J],
        tried=(),
        pinned="",
        # The same one on each rung.
        draws=() if record.kind == REFUSED else (record.draw,) * (record.rung + 1),
        rulings=(),
    )

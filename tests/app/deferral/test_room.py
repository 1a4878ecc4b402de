from types import SimpleNamespace

import numpy as np
import pytest

from router.app.deferral.process import ProcessDeferral
from router.app.deferral.room import Room, WantedModel, room_of, shared_out
from router.core import kernel_rows as k
from router.deferral.values import JobKind
from router.errors import NothingFeasibleError, UnknownModelError

LLAMA, OTHER, GONE = WantedModel("llama"), WantedModel("other"), WantedModel("gone")


def kind(model="llama", jobs=100, owner="a", deadline=10.0, batch="batch_1"):
    return JobKind(batch, model, owner, 0.0, deadline, jobs, 0, 100.0)


def view(endpoints):
    """``endpoints``: (name, most, under way, whether it is in service)."""
    live = np.zeros((k.LIVE_ROWS, len(endpoints)))
    table = np.zeros((k.CI_FROM, len(endpoints)))
    table[k.MAX_IN_FLIGHT] = [most for _, most, _, _ in endpoints]
    live[k.BATCH] = [busy for _, _, busy, _ in endpoints]
    live[k.ELIGIBLE] = [there for _, _, _, there in endpoints]
    names = [SimpleNamespace(name=name) for name, _, _, _ in endpoints]

    def find_for(request):
        if request.model == "to be found":
            raise NothingFeasibleError(request.model)
        if request.model != "llama":
            raise UnknownModelError(request.model)
        return SimpleNamespace(model="llama", version="1", endpoints=names)

    layout = SimpleNamespace(find_for=find_for)
    columns = {("llama", "1"): SimpleNamespace(table=table)}
    snapshot = SimpleNamespace(layout=layout, columns=columns)
    return SimpleNamespace(snapshot=snapshot, board=SimpleNamespace(live=lambda *_: live))


def test_interactive_requests_come_first():
    fleet = view([("idle", 10, 0, 1), ("busy", 10, 4.5, 1), ("full", 10, 9, 1), ("out", 10, 0, 0)])
    room = room_of(fleet, [LLAMA, LLAMA, GONE, WantedModel("to be found")], 0.5)
    assert room.places == {"idle": 5, "busy": 0, "full": 0, "out": 0}
    assert room.endpoints == {
        LLAMA: ("idle", "busy", "full", "out"), GONE: None, WantedModel("to be found"): (),
    }  # fmt: skip
    # One place at the least, or nothing would ever be done by a server that takes one at a time.
    assert room_of(view([("one", 1, 0, 1)]), [LLAMA], 0.5).places == {"one": 1}


def test_who_has_room_for_one_more(tmp_path):
    fleet = view([("idle", 10, 0, 1), ("busy", 10, 5, 1), ("full", 10, 10, 1), ("out", 10, 0, 0)])
    process = ProcessDeferral.__new__(ProcessDeferral)
    process._share = 0.5
    assert process.among(fleet, "llama", False) == {"idle"}
    assert process.among(fleet, "llama", True) == {"idle", "busy"}
    assert process.among(fleet, "gone", True) is None


def test_no_more_begins_than_there_is_room_for():
    room = Room({LLAMA: ("a", "b"), OTHER: ("b",)}, {"a": 2, "b": 3})
    found = shared_out([kind(), kind("other", deadline=20.0)], room, 100)
    assert [(one.model, count) for one, count in found] == [("llama", 5)]
    found = shared_out([kind(deadline=30.0), kind("other", 2, deadline=20.0)], room, 100)
    assert [(one.model, count) for one, count in found] == [("llama", 3), ("other", 2)]
    assert sum(count for _, count in shared_out([kind(), kind("other")], room, 3)) == 3


def test_one_owner_leaves_the_others_their_share():
    room = Room({LLAMA: ("a",)}, {"a": 10})
    many, few = kind(owner="many", deadline=1.0), kind(owner="few", deadline=99.0)
    assert [count for _, count in shared_out([many, few], room, 10)] == [5, 5]
    assert [count for _, count in shared_out([many, few._replace(jobs=1)], room, 10)] == [9, 1]


@pytest.mark.parametrize("most", [0, 1, 7])
def test_a_model_that_nobody_serves_is_told_so_at_once(most):
    room = Room({GONE: None}, {})
    found = shared_out([kind("gone", 5)], room, most)
    assert sum(count for _, count in found) == min(most, 5)


def test_nothing_waits():
    assert shared_out([], Room({}, {}), 10) == []

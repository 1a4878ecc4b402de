"""Load by page and by answer: the freshest word counts, and none of it attracts."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.contract import StatedLoad
from router.core import kernel_rows as k
from router.core.seat import BELIEVED_FOR
from router.model import UNBURDENED, Load
from tests.app.support import Place, configured
from tests.config.samples import DELETE
from tests.director.support import ANSWER, Says, report
from tests.factories import NOW

NAN = math.nan
# As vLLM's header has it: nothing of what runs.
QUEUE_ONLY = StatedLoad(NAN, 3.0, 0.5)
STALE_S = 10.0


def page(running=NAN, queued=NAN, kv_fraction=NAN):
    return Load(running, queued, kv_fraction, NOW)


@pytest.fixture
async def place(tmp_path):
    return await Place(configured(tmp_path), {"west-0": ANSWER, "east-0": ANSWER}).open()


def told(place, load, age_s=0.0, name="west-0"):
    place.runtime.loads.told(name, load, place.clock.monotonic() - age_s)


def shown(place, name="west-0"):
    return next(view for view in place.runtime.fleet().endpoints if view.name == name)


async def test_the_freshest_reading_wins_whichever_way_it_came(place):
    loads, seat = place.runtime.loads, place.seat("west-0")
    loads.polled("west-0", page(5.0, 2.0, 0.1), 2.0)
    told(place, StatedLoad(1.0, 1.0, 0.2))
    view = shown(place)
    assert (seat.others, view.load[:3], view.load_age_s) == (2.0, (1.0, 1.0, 0.2), 0.0)
    assert view.load_source == "orca"
    place.clock.advance(1.0)
    loads.polled("west-0", page(6.0, 0.0, 0.3), 0.25)
    view = shown(place)
    assert (seat.others, view.load[:3], view.load_age_s) == (6.0, (6.0, 0.0, 0.3), 0.25)
    assert view.load_source == "metrics"


async def test_an_older_answer_that_ends_later_changes_nothing(place):
    told(place, StatedLoad(4.0, 0.0, NAN), 1.0)
    told(place, StatedLoad(9.0, 0.0, NAN), 5.0)
    assert place.seat("west-0").others == 4.0


async def test_an_answer_that_tells_no_running_requests_takes_none_away(place):
    """Its queue is empty: those that the page saw run are there all the same."""
    place.runtime.loads.polled("west-0", page(40.0, 3.0), 1.0)
    told(place, StatedLoad(NAN, 0.0, 0.5))
    assert place.seat("west-0").others == 40.0
    assert shown(place).load[:3] == (40.0, 0.0, 0.5)


async def test_once_the_page_is_stale_what_runs_is_unknown(place):
    place.runtime.loads.polled("west-0", page(40.0, 3.0), STALE_S - 1.0)
    place.clock.advance(2.0)
    told(place, QUEUE_ONLY)
    assert place.seat("west-0").others == 3.0


async def test_of_a_queue_alone_only_what_exceeds_our_own_is_of_others(place):
    seat = place.seat("west-0")
    for _ in range(2):
        seat.take(UNBURDENED, NOW)
    told(place, QUEUE_ONLY)
    assert (seat.others, seat.batch) == (1.0, 3.0)
    seat.take(UNBURDENED, NOW)
    told(place, QUEUE_ONLY)
    assert (seat.others, seat.batch) == (0.0, 3.0)


async def test_a_lie_is_bounded_by_what_the_endpoint_may_have(place):
    told(place, StatedLoad(1e6, 1e6, 1.0))
    seat = place.seat("west-0")
    assert seat.others == 512.0
    assert (await place.infer()).receipt.region == "us-east"


async def test_what_answers_told_lapses_by_itself(place, tmp_path):
    """No page corrects it, and an endpoint that is kept away from answers nothing."""
    await place.runtime.reload(configured(tmp_path, {"endpoints/0/metrics": DELETE}))
    told(place, StatedLoad(500.0, 12.0, NAN))
    place.clock.advance(STALE_S)
    place.runtime.loads.expire()
    assert (place.seat("west-0").others, shown(place).load_source) == (512.0, "orca")
    place.clock.advance(0.1)
    place.runtime.loads.expire()
    assert place.seat("west-0").others == 0.0
    view = shown(place)
    assert (view.load, view.load_source) == (None, "") and math.isnan(view.load_age_s)


async def test_a_fresh_page_outlives_what_answers_told(place):
    told(place, StatedLoad(9.0, 9.0, NAN))
    place.clock.advance(STALE_S + 0.1)
    place.runtime.loads.polled("west-0", page(5.0, 0.0), 0.0)
    place.runtime.loads.expire()
    assert place.seat("west-0").others == 5.0


async def test_answers_do_not_use_up_how_long_others_are_believed_to_be_there(place):
    seat = place.seat("west-0")
    seat.take(UNBURDENED, NOW)
    seat.give_back(UNBURDENED)
    for count in range(3 * BELIEVED_FOR):
        told(place, StatedLoad(float(5 + count % 2), 0.0, NAN))
    assert {cell.column[k.AWAKE] for cell in seat._cells} == {1.0}
    for _ in range(BELIEVED_FOR + 1):
        place.runtime.loads.polled("west-0", page(5.0, 0.0), 0.0)
    assert {cell.column[k.AWAKE] for cell in seat._cells} == {0.0}


async def test_an_answer_that_changes_nothing_publishes_nothing(place, monkeypatch):
    told(place, StatedLoad(5.0, 0.0, NAN))
    published = []
    monkeypatch.setattr(
        type(place.seat("west-0")), "publish_load", lambda seat: published.append(seat.name)
    )
    told(place, StatedLoad(4.0, 1.0, 0.5))
    assert not published
    told(place, StatedLoad(4.0, 2.0, 0.5))
    assert published == ["west-0"]


async def test_answers_of_an_endpoint_that_is_gone_are_dropped_and_others_stay(place, tmp_path):
    told(place, StatedLoad(5.0, 0.0, NAN), name="east-0")
    told(place, StatedLoad(7.0, 0.0, NAN))
    solo = {"endpoints": [{
        "name": "east-0", "region": "us-east", "address": "127.0.0.1:9002",
        "models": [{"name": "llama-3.1-8b", "profile": "llama-3.1-8b@1xh100"}],
        "max_in_flight": 4,
    }]}  # fmt: skip
    await place.runtime.reload(configured(tmp_path, solo))
    told(place, StatedLoad(9.0, 0.0, NAN))
    told(place, StatedLoad(9.0, 0.0, NAN), name="nobody")
    place.clock.advance(STALE_S + 1.0)
    place.runtime.loads.expire()
    assert place.seat("east-0").others == 0.0
    assert [view.name for view in place.runtime.fleet().endpoints] == ["east-0"]


async def test_without_its_page_what_answers_told_stays(place, tmp_path):
    place.runtime.loads.polled("west-0", page(50.0, 0.0), 0.0)
    told(place, StatedLoad(NAN, 3.0, NAN))
    await place.runtime.reload(configured(tmp_path, {"endpoints/0/metrics": DELETE}))
    assert place.seat("west-0").others == 3.0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("first", "age_s"), [(False, 0.0), (True, 4.0)])
async def test_load_in_an_answer_reaches_the_seat(tmp_path, streamed, first, age_s):
    """A report at the head of a stream may be as old as the request; any other came at its end."""
    says = Says(b"answer", trailers=report(load=StatedLoad(5.0, 2.0, NAN)), end_s=4.0)
    place = await Place(configured(tmp_path), {"west-0": says}).open()
    parts = place.dispatcher.parts
    upstream = parts.upstreams["oip"]._replace(reports_first=first)
    place.dispatcher.parts = parts._replace(upstreams={"oip": upstream}, loads=place.runtime.loads)
    if streamed:
        routed = place.director.stream(place.call())
        assert [message async for message in routed] == [b"answer"]
    else:
        await place.infer()
    view = shown(place)
    assert (place.seat("west-0").others, view.load[:2]) == (7.0, (5.0, 2.0))
    assert view.load_age_s == (age_s if streamed else 0.0)


FIGURE = st.sampled_from([NAN, 0.0, 1.0, 40.0, 1e6])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("page"), FIGURE, FIGURE, st.floats(0.0, 20.0)),
        st.tuples(st.just("answer"), FIGURE, FIGURE, st.floats(0.0, 20.0)),
        st.tuples(st.just("wait"), st.floats(0.0, 20.0)),
        st.tuples(st.just("take")),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
async def test_whatever_is_told_others_stay_within_bounds_and_lapse(tmp_path_factory, steps):
    place = await Place(configured(tmp_path_factory.mktemp("fleet"))).open()
    loads, seat, own = place.runtime.loads, place.seat("west-0"), 0
    for kind, *figures in steps:
        if kind == "page":
            loads.polled("west-0", page(*figures[:2]), figures[2])
        elif kind == "answer":
            told(place, StatedLoad(figures[0], figures[1], NAN), figures[2])
        elif kind == "wait":
            place.clock.advance(figures[0])
            loads.expire()
        else:
            seat.take(UNBURDENED, NOW)
            own += 1
        assert 0.0 <= seat.others <= 512.0
        assert seat.batch >= own
    place.clock.advance(STALE_S + 21.0)
    loads.polled("west-0", None, math.inf)
    loads.expire()
    assert seat.others == 0.0

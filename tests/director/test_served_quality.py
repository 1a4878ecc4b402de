"""A request takes of its tenant's mean from its decision on, and adds to it by its answer."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from router.core.quality_means import QualityMeans
from router.director import Call
from router.director.served_quality import ServedQuality
from router.model import Alias, ChosenVariant, QualityFloors, Variant
from tests.director.support import Room, Says
from tests.factories import PRIOR, endpoint, fleet, forecasts, request, served, token_profile

CHAT = Alias(
    "chat", (Variant("small", 0.4), Variant("large", 0.8)), "test", QualityFloors(0.0, 0.6)
)


class Desk:
    def __init__(self):
        fleet = SimpleNamespace(aliases={"chat": CHAT})
        self.view = SimpleNamespace(snapshot=SimpleNamespace(layout=SimpleNamespace(fleet=fleet)))
        self.parts = SimpleNamespace(clock=SimpleNamespace(now=lambda: 0.0))
        self.means = QualityMeans()

    def mean(self):
        return self.means.mean(CHAT, "acme", 0.0)


def decision(model):
    chosen = ChosenVariant("chat", model, CHAT.quality_of(model), 0.0, ())
    return SimpleNamespace(variant=chosen)


def counted(desk, model):
    one = ServedQuality(desk, request(model="chat", tenant="acme"))
    one.chosen(decision(model))
    return one


def test_what_takes_of_the_mean_counts_at_once_and_not_any_more_where_nobody_answers():
    desk = Desk()
    one = counted(desk, "small")
    assert desk.mean() == 0.4
    one.leave()
    assert desk.mean() is None


def test_what_adds_to_the_mean_counts_once_it_is_answered():
    desk = Desk()
    one = counted(desk, "large")
    assert desk.mean() is None
    one.answered(decision("large"))
    one.leave()
    assert desk.mean() == 0.8


@pytest.mark.parametrize(("first", "then"), [("large", "small"), ("small", "large")])
def test_what_answered_counts_and_not_what_was_chosen_first(first, then):
    desk = Desk()
    one = counted(desk, first)
    one.answered(decision(then))
    one.leave()
    assert desk.mean() == CHAT.quality_of(then)


def test_one_that_moves_takes_what_it_takes_then_once():
    desk = Desk()
    one = counted(desk, "large")
    one.chosen(decision("small"))
    one.chosen(decision("small"))
    assert desk.mean() == 0.4
    one.chosen(decision("large"))
    assert desk.mean() is None


async def test_nothing_is_spent_that_was_not_answered_yet():
    ends = [
        endpoint(name, f"r-{name}", served(token_profile(f"{name}@test", base_w=watts), name))
        for name, watts in (("small", 300.0), ("large", 1200.0))
    ]
    made = Room(
        {name: Says(name.encode(), end_s=0.4) for name in ("small", "large")},
        replace(
            fleet(*ends, priors=dict.fromkeys(("small", "large", "chat"), PRIOR)),
            aliases={"chat": CHAT},
        ),
        carbon=forecasts(**{"r-small": 100, "r-large": 100}),
    )

    async def ask():
        asked = request(model="chat", tenant="acme")
        call = Call(asked, b"ask", (), None, named=lambda payload, model: payload)
        return (await made.director.infer(call)).payload

    assert await asyncio.gather(ask(), ask()) == [b"large", b"large"]
    assert await asyncio.gather(ask(), ask(), ask()) == [b"small", b"small", b"large"]

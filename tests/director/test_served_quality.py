"""A request counts in its tenant's mean from its decision on, unless nobody serves it."""

from types import SimpleNamespace

from router.core.quality_means import QualityMeans
from router.director.served_quality import ServedQuality
from router.model import Alias, ChosenVariant, QualityFloors, Variant
from tests.factories import request

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


def test_it_counts_at_once_and_not_any_more_where_nobody_answers():
    desk = Desk()
    served = ServedQuality(desk, request(model="chat", tenant="acme"), decision("large"))
    assert desk.mean() == 0.8
    served.leave()
    assert desk.mean() is None


def test_what_answered_counts_and_not_what_was_chosen_first():
    desk = Desk()
    served = ServedQuality(desk, request(model="chat", tenant="acme"), decision("large"))
    served.answered(decision("small"))
    served.leave()
    assert desk.mean() == 0.4

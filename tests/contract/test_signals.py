"""Figures of different basis or factors never meet: every pair, wherever two could."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import pytest

from router.carbon.chain.chain import CarbonChain
from router.carbon.chain.combine import Combiner
from router.carbon.chain.revisions import Revisions
from router.carbon.forecast import Nowcast
from router.carbon.tables.static import StaticSource
from router.core.columns import build_snapshot
from router.core.layout import Layout
from router.errors import MixedBasisError
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal, require_same_signal
from tests.factories import endpoint, fleet, policy, region

T0 = 1_652_486_400.0
HOUR = 3600.0
SIGNALS = [Signal(basis, factors) for basis, factors in product(Basis, Factors)]
PAIRS = list(product(SIGNALS, SIGNALS))


def a_value(signal: Signal, kind: Kind = Kind.MEASURED, end: float = T0) -> Intensity:
    return Intensity(100.0, 90.0, 110.0, signal, kind, "source", end, end + 9 * HOUR)


def mixing(one: Signal, other: Signal, what: str) -> None:
    """Bring a value of each together."""
    if what == "comparison":
        require_same_signal(a_value(one), a_value(other))
    elif what == "forecast":
        Forecast("Z", T0, HOUR, (a_value(one), a_value(other)))
    elif what == "chain":
        sources = [StaticSource(one, {}), StaticSource(other, {})]
        CarbonChain(sources, Nowcast())
    elif what == "chain and annual means":
        CarbonChain([StaticSource(one, {})], Nowcast(), StaticSource(other, {}))
    elif what == "forecaster":
        forecaster = Nowcast()
        forecaster.observe("Z", a_value(one))
        forecaster.observe("Z", a_value(other, end=T0 + HOUR))
    elif what == "combination":
        Combiner().combine("Z", [a_value(one)], [a_value(other)], T0)
    elif what == "books":
        books = Revisions()
        books.take("Z", a_value(one), T0)
        books.take("Z", a_value(other, end=T0 + HOUR), T0)
    else:
        here, there = region("here"), region("there")
        both = fleet(endpoint("h", "here"), endpoint("t", "there"), regions=[here, there])
        carbon = {
            zone: Forecast(zone, T0, HOUR, (a_value(signal),) * 6)
            for zone, signal in ((here.grid_zone, one), (there.grid_zone, other))
        }
        build_snapshot(Layout(both), policy(), carbon, {}, T0, 1)


MEETINGS = [
    "comparison",
    "forecast",
    "chain",
    "chain and annual means",
    "forecaster",
    "combination",
    "books",
    "snapshot",
]


@pytest.mark.parametrize("what", MEETINGS)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_every_pair_that_differs_is_refused(one: Signal, other: Signal, what: str) -> None:
    if one == other:
        mixing(one, other, what)
        return
    with pytest.raises(MixedBasisError):
        mixing(one, other, what)


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_a_source_that_answers_in_another_signal_is_not_believed(
    one: Signal, other: Signal
) -> None:
    """Whatever it says of itself."""

    class Lying(StaticSource):
        async def read(self, grid_zones: Sequence[str], now: float) -> Mapping[str, Intensity]:
            return dict.fromkeys(grid_zones, a_value(other))

    chain = CarbonChain([Lying(one, {})], Nowcast())
    await chain.refresh(["Z"], T0 + 60.0)
    served = chain.view(["Z"], T0 + 60.0, 1)
    assert bool(served) == (one == other)
    assert all(slot.signal == one for view in served.values() for slot in view.slots)
    (attempt,) = chain.attempts["Z"]
    assert attempt.ok == (one == other)
    assert attempt.code == ("" if one == other else "provider_answer")

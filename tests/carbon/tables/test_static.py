from __future__ import annotations

import math

import pytest

from router.carbon.tables.static import EMBEDDED_SIGNAL, StaticSource, parse
from router.errors import ConfigError, TraceError
from router.model import Basis, Factors, Kind, Signal

T0 = 1_652_486_400.0
MARGINAL = Signal(Basis.MARGINAL, Factors.NONE)


async def test_the_operators_figure_stands_over_the_embedded_one() -> None:
    source = StaticSource.load(EMBEDDED_SIGNAL, {"DE": 380.0, "my-campus": 12}, as_of=T0)
    answer = await source.read(["DE", "my-campus", "SG", "nowhere"], T0)
    assert set(answer) == {"DE", "my-campus", "SG"}
    assert answer["DE"].g_per_kwh == 380.0 and answer["DE"].source == "static(config)"
    assert answer["DE"].observed_at == T0
    assert answer["my-campus"].low_g_per_kwh < 12.0 < answer["my-campus"].high_g_per_kwh
    assert answer["SG"].source == "static(ember-2025)"
    for value in answer.values():
        assert value.kind is Kind.ANNUAL_MEAN and value.expires_at == math.inf
    assert source.mean("DE") == answer["DE"]
    assert source.mean("nowhere") is None


async def test_the_embedded_table_does_not_serve_another_signal() -> None:
    source = StaticSource.load(MARGINAL, {"DE": 700.0}, as_of=T0)
    assert source.grid_zones == {"DE"}
    value = source.mean("DE")
    assert value is not None and value.signal == MARGINAL == source.signal


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, 5001.0])
def test_a_figure_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"g_per_kwh\.DE"):
        StaticSource.load(EMBEDDED_SIGNAL, {"DE": value}, as_of=T0)


def test_a_true_zero_needs_other_factors() -> None:
    direct = Signal(Basis.AVERAGE, Factors.DIRECT)
    value = StaticSource.load(direct, {"IS": 0.0}, as_of=T0).mean("IS")
    assert value is not None and value.g_per_kwh == 0.0


@pytest.mark.parametrize("figure", ["", "0", "-3", "inf", "x"])
def test_a_bad_table_is_refused(figure: str) -> None:
    text = ["zone,g_per_kwh,source,year,p05_ratio,p95_ratio", f"DE,{figure},set,2022,0.5,1.5"]
    with pytest.raises(TraceError, match="row 2"):
        parse(text, "t.csv")

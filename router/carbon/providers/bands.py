"""How wide the 90 % interval of a source's value is, when the source states none itself.

Half-widths are relative to the value. The 90 % quantile of a Laplace error is ln 10 = 2.3 times
its mean, which turns a published mean error into a half-width.
"""

from __future__ import annotations

from typing import Final

from router.errors import ProviderAnswerError
from router.model import Basis, Intensity, Kind, Signal
from router.units import DAY_S, HOUR_S

# Forecast: 90 % quantile of the relative error of published day-ahead forecasts, six grids,
# 2021-H2 (DACF). Estimated: no published error is at hand; as for a value 3 h old (persistence
# MAPE 6.5 %). Measured: the publisher's own figure is taken as it is.
RELATIVE_HALF_WIDTH: Final = {Kind.MEASURED: 0.0, Kind.ESTIMATED: 0.15, Kind.FORECAST: 0.142}

# Beyond a day a forecast is taken to widen as persistence does: MAPE 9.8 % at 24 h, 15 % at 96 h
# (11 grids, 2021).
_FAR_S: Final = 96 * HOUR_S
_FAR_GROWTH: Final = 15.0 / 9.8

# A marginal rate is a model's answer to what cannot be observed, and steps from one plant type to
# another within minutes; nobody publishes its error. Assumed: twice the widths of an average
# intensity, and never below a tenth of a gas plant's 450 g/kWh, so that a rate of 0 (curtailed
# wind or sun) does not pass for a certainty.
_MARGINAL_FACTOR: Final = 2.0
MARGINAL_LEAST_HALF_WIDTH_G: Final = 45.0


def half_width_g(g_per_kwh: float, signal: Signal, kind: Kind, lead_s: float = 0.0) -> float:
    """Half-width in g/kWh of a value of ``kind``; ``lead_s``: how far ahead a forecast looks.

    Raises KeyError for a kind that no provider publishes (climatology, annual mean).
    """
    relative = RELATIVE_HALF_WIDTH[kind]
    if kind is Kind.FORECAST and lead_s > DAY_S:
        share = (min(lead_s, _FAR_S) - DAY_S) / (_FAR_S - DAY_S)
        relative *= 1.0 + share * (_FAR_GROWTH - 1.0)
    if signal.basis is Basis.MARGINAL:
        return max(g_per_kwh * relative * _MARGINAL_FACTOR, MARGINAL_LEAST_HALF_WIDTH_G)
    return g_per_kwh * relative


def with_band(
    g_per_kwh: float,
    signal: Signal,
    kind: Kind,
    source: str,
    *,
    observed_at: float,
    expires_at: float,
    half_g: float | None = None,
) -> Intensity:
    """An intensity with ``half_g`` (default: as by ``half_width_g``) either side, low cut at 0.

    Raises ProviderAnswerError when that is no intensity (negative, or not finite).
    """
    half = half_width_g(g_per_kwh, signal, kind) if half_g is None else half_g
    if not 0.0 <= g_per_kwh < 1e9:
        raise ProviderAnswerError(f"{source}: {g_per_kwh:g} g/kWh is no carbon intensity")
    return Intensity(
        g_per_kwh=g_per_kwh,
        low_g_per_kwh=max(0.0, g_per_kwh - half),
        high_g_per_kwh=g_per_kwh + half,
        signal=signal,
        kind=kind,
        source=source,
        observed_at=observed_at,
        expires_at=expires_at,
    )

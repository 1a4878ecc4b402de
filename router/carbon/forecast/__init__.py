"""Forecasting carbon intensity from its own past."""

from router.carbon.forecast.nowcast import Nowcast

__all__ = ["Nowcast"]

"""Rolling-origin backtest of the forecaster beside the naive forecasts."""

from router.lab.backtest.evaluate import BacktestResult, evaluate, parse_zones
from router.lab.backtest.report import progress_bar, render

__all__ = ["BacktestResult", "evaluate", "parse_zones", "progress_bar", "render"]

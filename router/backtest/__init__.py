"""Rolling-origin backtest of the forecaster beside the naive forecasts."""

from router.backtest.evaluate import Evaluation, evaluate, parse_zones
from router.backtest.report import progress_bar, render

__all__ = ["Evaluation", "evaluate", "parse_zones", "progress_bar", "render"]

"""Day-ahead error beside published day-ahead forecasts: six grids, second half of 2021 (DACF).

    python -m benchmarks.day_ahead [FOLDER]

Origin 00:00 UTC, leads 0 to 23 h, direct emission factors. `forecaster` is the shipped one, which
knows past intensities alone. `with weather` adds the weather forecast columns of the set, known at
issue, to a ridge regression an hour ahead: its inputs are the shipped forecast, the weather of the
hour forecast and of the same hour the day before; it is refitted every week on all days before, and
lives here only. DE has no weather in the set.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from router.carbon.forecast.nowcast import OFFSET_G
from router.carbon.forecast.zone import ZoneModel
from router.model import Factors

FOLDER = Path(__file__).resolve().parents[2] / "shared/data/dacf-dayahead-forecast-2021"
ACTUAL = "actual_ci_mix_weatherfc_2020_2021.csv.gz"
PUBLISHED = "dayahead_ci_forecast_2021h2.csv.gz"
LEADS_H = np.arange(1, 25)
OFFSET = OFFSET_G[Factors.DIRECT]
HALF_LIFE_D = 180.0
PENALTY = 30.0


def hour_of(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).astimezone(UTC).timestamp() // 3600)


def rows(path: Path) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row["zone"]].append(row)
    return found


def number(cell: str) -> float:
    return float(cell) if cell else float("nan")


def shipped(values: np.ndarray, first_h: int) -> np.ndarray:
    """Forecasts (log) issued at each midnight; shape (days, 24), NaN before there is a value."""
    midnight = -first_h % 24
    days = (len(values) - midnight) // 24
    issued = np.full((days, 24), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    model = ZoneModel(first_h + int(known[0]), LEADS_H, offset_g=OFFSET)
    for row, value in enumerate(values.tolist()):
        day, hour = divmod(row - midnight, 24)
        if hour == 0 and 0 <= day < days and model.newest_h == first_h + row - 1 and row > known[0]:
            issued[day] = model.issue().log_point
        if not np.isnan(value):
            model.observe(first_h + row, value)
    return issued


def with_weather(issued: np.ndarray, logs: np.ndarray, weather: np.ndarray) -> np.ndarray:
    """Correct each hour of the day by ridge on the weather; (days, 24), fitted on days before."""
    days = len(logs)
    # 2021-12-31 has zeros for weather, temperature (K) included.
    weather = np.where((weather == 0.0).all(axis=2, keepdims=True), np.nan, weather)
    scale = np.nanstd(weather, axis=(0, 1))
    change = np.zeros_like(weather)
    change[1:] = weather[1:] - weather[:-1]
    inputs = np.concatenate([weather, change], axis=2) / np.tile(np.maximum(scale, 1e-9), 2)
    inputs = inputs - np.nanmean(inputs[:180], axis=(0, 1))
    inputs = np.concatenate([inputs, inputs**2, np.ones((*inputs.shape[:2], 1))], axis=2)
    corrected = issued.copy()
    fits = np.zeros((24, inputs.shape[2]))
    for day in range(60, days):
        if day % 7 == 0:
            age = 0.5 ** ((day - 1 - np.arange(day)) / HALF_LIFE_D)
            for hour in range(24):
                around = [(hour + k) % 24 for k in (-1, 0, 1)]
                x = inputs[:day, around].reshape(-1, inputs.shape[2])
                y = (logs - issued)[:day, around].reshape(-1)
                good = ~(np.isnan(x).any(axis=1) | np.isnan(y))
                weighted = x[good] * np.repeat(age, 3)[good, None]
                gram = weighted.T @ x[good] + PENALTY * np.eye(x.shape[1])
                fits[hour] = np.linalg.solve(gram, weighted.T @ y[good])
        corrected[day] += np.nan_to_num(np.einsum("hk,hk->h", inputs[day], fits))
    return corrected


def compare(actual: list[dict[str, str]], published: list[dict[str, str]]) -> dict[str, float]:
    """MAPE in % of each method over the hours of ``published``."""
    first_h = hour_of(actual[0]["datetime_utc"])
    values = np.array([number(row["carbon_intensity"]) for row in actual])
    issued = shipped(values, first_h)
    midnight, days = -first_h % 24, len(issued)
    span = slice(midnight, midnight + 24 * days)
    logs = np.log(values[span] + OFFSET).reshape(days, 24)
    names = [name for name in actual[0] if name.startswith("wxfc_") and actual[-48][name]]
    forecasts = {"forecaster": issued}
    if names:
        weather = np.array([[number(row[name]) for name in names] for row in actual])
        shape = (days, 24, len(names))
        forecasts["with weather"] = with_weather(issued, logs, weather[span].reshape(shape))
    hours = np.array([hour_of(row["datetime_utc"]) for row in published]) - first_h
    truth = np.array([number(row["ci_actual"]) for row in published])
    says = {"published": np.array([number(row["ci_forecast_day_ahead"]) for row in published])}
    says["same hour yesterday"] = values[hours - 24]
    for name, grid in forecasts.items():
        says[name] = np.exp(grid.reshape(-1)[hours - midnight]) - OFFSET
    usable = truth > 0.0
    for guess in says.values():
        usable &= ~np.isnan(guess)
    # In DE the two files count with other factors: each forecast is judged by its own series.
    actuals = {name: truth if name == "published" else values[hours] for name in says}
    error = {
        name: np.abs(guess / actuals[name] - 1.0)[usable].mean() for name, guess in says.items()
    }
    return {name: 100.0 * float(value) for name, value in error.items()}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    if not (folder / ACTUAL).exists():
        sys.exit(f"SKIPPED: no {folder / ACTUAL}; name the folder of the DACF set")
    actual, published = rows(folder / ACTUAL), rows(folder / PUBLISHED)
    names = ("published", "forecaster", "with weather", "same hour yesterday")
    print("Day-ahead MAPE, %, 2021-07 to 2021-12, origin 00:00 UTC, leads 0 to 23 h")
    print(f"{'grid zone':14}" + "".join(f"{name:>21}" for name in names))
    for zone in published:
        found = compare(actual[zone], published[zone])
        cells = [f"{found[name]:.1f}" if name in found else "no weather data" for name in names]
        print(f"{zone:14}" + "".join(f"{cell:>21}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()

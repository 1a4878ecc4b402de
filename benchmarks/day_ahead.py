"""Day-ahead error beside published day-ahead forecasts: six grids, second half of 2021 (DACF).

    python -m benchmarks.day_ahead [FOLDER]

Origin 00:00 UTC, leads 0 to 23 h, direct emission factors. `past alone` is what the forecaster says
from past intensities; `with weather` what it says with the weather forecast of the set (GFS, means
over the zone, for the day that begins at the origin). Both learn as they go, from 2020 on. DE has
no weather in the set. Of other origins nothing is scored: in the set the next day's weather is
that of the next midnight.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from router.carbon.forecast.design import WEEK_H
from router.carbon.forecast.nowcast import OFFSET_G
from router.carbon.forecast.rolling import Rolling
from router.carbon.forecast.weather import ZoneWeather
from router.carbon.forecast.zone import log_of
from router.carbon.weather.conditions import WeatherForecast
from router.model import Factors

FOLDER = Path(__file__).resolve().parents[2] / "shared/data/dacf-dayahead-forecast-2021"
ACTUAL = "actual_ci_mix_weatherfc_2020_2021.csv.gz"
PUBLISHED = "dayahead_ci_forecast_2021h2.csv.gz"
LEADS_H = np.arange(1, 25)
ZERO_C_IN_K = 273.15
OFFSET = OFFSET_G[Factors.DIRECT]


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


def weather_of(actual: list[dict[str, str]], first_h: int) -> WeatherForecast | None:
    """The set's weather of a zone; None where it has none."""
    names = ("wind_speed", "dswrf", "temperature", "dewpoint", "precipitation")
    if not actual[-48]["wxfc_wind_speed"]:
        return None
    values = np.array([[number(row[f"wxfc_{name}"]) for name in names] for row in actual])
    # 2021-12-31 has zeros for weather, temperature (K) included.
    values[(values == 0.0).all(axis=1)] = np.nan
    values[:, 2:4] -= ZERO_C_IN_K
    return WeatherForecast("gfs", np.inf, first_h, values)


def alone(values: np.ndarray, first_h: int) -> np.ndarray:
    """(hours, leads) in the log: what is issued after each hour, from the past alone."""
    rolling = Rolling(values[:, None], first_h, [None], OFFSET, LEADS_H)
    found = np.empty((len(values), len(LEADS_H)))
    for hour in range(len(values)):
        rolling.advance(hour + 1)
        found[hour] = rolling.log_point[0]
    return found


def with_weather(plain: np.ndarray, values: np.ndarray, weather: WeatherForecast) -> np.ndarray:
    """As `alone`, corrected by the weather."""
    logs, first_h = log_of(values, OFFSET), weather.first_h
    zone = ZoneWeather(LEADS_H)
    zone.forecast = weather
    found = plain.copy()
    for hour in range(WEEK_H, len(values)):
        zone.learn(first_h + hour, float(logs[hour]))
        said = zone.say(first_h + hour + 1, plain[hour], logs[hour + 1 - WEEK_H : hour + 1])
        if said is not None:
            found[hour] = said.point
            zone.keep(first_h + hour + 1, said)
    return found


def compare(actual: list[dict[str, str]], published: list[dict[str, str]]) -> dict[str, float]:
    """MAPE in % of each method over the hours of ``published``."""
    first_h = hour_of(actual[0]["datetime_utc"])
    values = np.array([number(row["carbon_intensity"]) for row in actual])
    weather = weather_of(actual, first_h)
    midnights = np.arange(-first_h % 24, len(values) - 24, 24)
    issued = {"past alone": alone(values, first_h)}
    if weather is not None:
        issued["with weather"] = with_weather(issued["past alone"], values, weather)
    hours = np.array([hour_of(row["datetime_utc"]) for row in published]) - first_h
    truth = np.array([number(row["ci_actual"]) for row in published])
    says = {"published": np.array([number(row["ci_forecast_day_ahead"]) for row in published])}
    says["same hour yesterday"] = values[hours - 24]
    for name, logs in issued.items():
        # What was issued after the hour before each midnight, for the day that begins there.
        said = np.full(len(values), np.nan)
        said[midnights[1:, None] + np.arange(24)] = logs[midnights[1:] - 1]
        says[name] = np.exp(said[hours]) - OFFSET
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
    names = ("published", "past alone", "with weather", "same hour yesterday")
    print("Day-ahead MAPE, %, 2021-07 to 2021-12, origin 00:00 UTC, leads 0 to 23 h")
    print(f"{'grid zone':14}" + "".join(f"{name:>21}" for name in names))
    for zone in published:
        found = compare(actual[zone], published[zone])
        cells = [f"{found[name]:.1f}" if name in found else "no weather data" for name in names]
        print(f"{zone:14}" + "".join(f"{cell:>21}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()

"""What weather forecasts are worth to work that waits: five grids of 2021 (DACF), direct factors.

    python -m benchmarks.waiting_weather [FOLDER]

As `benchmarks.waiting`: every hour a job arrives that may begin up to a window later, and at the
beginning of every hour each that waits begins if no hour left to it is expected to be cleaner; here
hours are priced by the forecast itself. The newest hour known is the one that has just ended. The
forecaster learns from 2020 on; 2021 counts.

The set has one weather forecast a day, of midnight for the day that begins (GFS). `weather of
midnight`: hours past the day's end are forecast from the past alone. `weather a day ahead`: the
next day's is taken to be known at every hour as it is at its midnight; a provider forecasts a day
ahead almost as well, and this is not what the set shows.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.day_ahead import (
    ACTUAL,
    FOLDER,
    LEADS_H,
    OFFSET,
    alone,
    hour_of,
    number,
    rows,
    weather_of,
    with_weather,
)
from benchmarks.waiting import Forecasts, expected, waited

WINDOWS_H = (8, 23)


def grams(logs: np.ndarray) -> Forecasts:
    """As `benchmarks.waiting` takes them, of one zone, without a spread."""
    point = np.maximum(np.exp(logs) - OFFSET, 0.0)[:, None]
    return Forecasts(point, point, point)


def of_midnight(plain: np.ndarray, corrected: np.ndarray, first_h: int) -> np.ndarray:
    """``corrected`` to the end of the day of the hour that begins, ``plain`` from there on."""
    left = 24 - (first_h + 1 + np.arange(len(plain))) % 24
    return np.where(left[:, None] >= LEADS_H, corrected, plain)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    if not (folder / ACTUAL).exists():
        sys.exit(f"SKIPPED: no {folder / ACTUAL}; name the folder of the DACF set")
    ways = ("past alone", "weather of midnight", "weather a day ahead")
    print("| grid zone | window | knows all hours | " + " | ".join(ways) + " |")
    print("|---|---|--:|" + "--:|" * len(ways))
    for name, actual in rows(folder / ACTUAL).items():
        first_h = hour_of(actual[0]["datetime_utc"])
        values = np.array([number(row["carbon_intensity"]) for row in actual])
        weather = weather_of(actual, first_h)
        if weather is None:
            continue
        plain = alone(values, first_h)
        corrected = with_weather(plain, values, weather)
        seen = [grams(one) for one in (plain, of_midnight(plain, corrected, first_h), corrected)]
        g = values[:, None]
        since = hour_of("2021-01-01T00:00Z") - first_h
        for window in WINDOWS_H:
            shares = []
            for way in seen:
                picks = partial(expected, way, g, 0)
                once, ours, least = waited(g, picks, window, since)
                shares.append(100.0 * (once - ours) / (once - least))
            cells = [f"{share:.0f} %" for share in shares]
            most = 100.0 * (once - least)
            print(f"| {name} | {window} h | {most:.1f} % | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

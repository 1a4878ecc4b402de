"""What waiting saves in place when the product's own forecaster picks the hour: docs/deferral.md.

    python -m benchmarks.waiting [FOLDER]

Every hour a job arrives in every grid zone, which may begin up to a window later and runs for less
than an hour; there is room for all of them. At the beginning of every hour each that waits is asked
anew: it begins if no hour that is left to it is expected to be cleaner. `knows all hours` is the
least possible; `day before` takes the same hour of the day before for the forecast. `lag`: until
the mean of an hour is published, from its end; "now" where that of the hour that begins is known.

The rule is what `router.core.deferral.planning` comes to with room for all; a sample is held
against it. The forecaster learns as it goes, from the first hour of the set on; what is counted
begins where the table says.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from router.carbon.forecast.rolling import Rolling
from router.carbon.tables.table import TraceTable, read_table
from router.core.deferral.outlook import DeferralOutlook
from router.core.deferral.planning import DeferralRules, plan_deferral
from router.core.deferral.work import WaitingJob, WaitingWork
from router.lab.replicate.inputs import Literature
from router.model import Factors
from router.units import HOUR_S

FOLDER = Path(__file__).resolve().parents[2] / "shared/data"
LONG = "ci-hourly-2021-2023-16zones/ci_lca_gco2_per_kwh_2021_2023.csv.gz"
WINDOWS_H = (2, 8, 24)
# The first hour asked for lies two after the newest that is known at the most.
LEADS_H = np.arange(1, 28)
TOGETHER = 8
SAMPLE = 200


class Forecasts(NamedTuple):
    """Of every hour known last: (hours, zones, leads) g/kWh, the point and its 5 and 95 %."""

    point: np.ndarray
    low: np.ndarray
    high: np.ndarray


def forecasts(table: TraceTable) -> Forecasts:
    hours, zones = table.g_per_kwh.shape
    found = np.empty((3, hours, zones, len(LEADS_H)), np.float32)
    first_h = round(table.start / HOUR_S)
    for begin in range(0, zones, TOGETHER):
        some = slice(begin, min(zones, begin + TOGETHER))
        count = some.stop - begin
        rolling = Rolling(table.g_per_kwh[:, some], first_h, [None] * count, leads_h=LEADS_H)
        for hour in range(hours):
            rolling.advance(hour + 1)
            log = rolling.log_point
            for place, below in enumerate((0.0, rolling.low, rolling.high)):
                found[place, hour, some] = np.exp(log + below)
    return Forecasts(*found)


def expected(seen: Forecasts, g: np.ndarray, hour: int, lag: int | None, window: int) -> np.ndarray:
    """(window + 1, zones): this hour and those ahead, at the beginning of ``hour``."""
    newest = hour if lag is None else hour - 1 - lag
    leads = np.maximum(np.arange(hour - newest, hour - newest + window + 1), 1)
    point, low, high = (part[newest][:, leads - 1].T for part in seen)
    mean = 0.185 * low + 0.63 * point + 0.185 * high
    if lag is None:
        mean[0] = g[hour]
    return np.asarray(mean, float)


def day_before(g: np.ndarray, hour: int, lag: int | None, window: int) -> np.ndarray:
    newest = hour if lag is None else hour - 1 - lag
    at = hour + np.arange(window + 1)
    at -= 24 * np.ceil((at - newest) / 24).astype(int)
    mean = g[at].copy()
    if lag is None:
        mean[0] = g[hour]
    return mean


def waited(g: np.ndarray, picks: object, window: int, first: int) -> tuple[float, float, float]:
    """(g/kWh at once, waiting by ``picks``, knowing all) of jobs that arrive from ``first`` on."""
    last = len(g) - 24 - window - 2
    waits: dict[int, np.ndarray] = {}
    sums = np.zeros(3)
    for hour in range(first, last + window + 1):
        if hour <= last:
            waits[hour] = np.ones(g.shape[1], bool)
            sums[0] += g[hour].sum()
            sums[2] += g[hour : hour + window + 1].min(axis=0).sum()
        now, *later = picks(hour, window)
        best = np.minimum.accumulate(later, axis=0)
        for arrived in list(waits):
            left = arrived + window - hour
            goes = waits[arrived] & ((now <= best[left - 1]) if left else True)
            sums[1] += g[hour][goes].sum()
            waits[arrived] &= ~goes
            if not waits[arrived].any():
                del waits[arrived]
    return tuple(sums / sums[0])  # type: ignore[return-value]


def hold(seen: Forecasts, g: np.ndarray, start: float, first: int) -> None:
    """A sample of decisions is the planner's."""
    rng = np.random.default_rng(1)
    rules = DeferralRules(attempts=0.0, margin_s=0.0)
    for _ in range(SAMPLE):
        hour, zone = int(rng.integers(first, len(g) - 60)), int(rng.integers(g.shape[1]))
        window = int(rng.choice(WINDOWS_H))
        mean = expected(seen, g, hour, 0, window)[:, zone]
        now = start + hour * HOUR_S
        bands = np.stack([mean, mean, mean])[:, None]
        room = np.full((1, 1, window + 1), 1e6)
        outlook = DeferralOutlook(
            ("m",), ("r",), now, HOUR_S, bands, np.ones(1), room, 0.0 * room, room, np.ones((1, 1))
        )
        due = now + (window + 1) * HOUR_S
        work = WaitingWork.of([WaitingJob(now, due, "m", 1.0, 1.0)])
        plan = plan_deferral(work, outlook, now, rules)
        assert (len(plan.rows) == 1) == bool(mean[0] <= mean[1:].min()), (hour, zone, window)


def told(name: str, table: TraceTable, first: int) -> None:
    g = table.g_per_kwh
    seen = forecasts(table)
    hold(seen, g, table.start, first)
    print(
        f"\n{name}\n\n| window | lag | knows all hours | scheduler | of it | day before | of it |"
    )
    print("|---|---|--:|--:|--:|--:|--:|")
    for window in WINDOWS_H:
        for lag in (None, 1):
            own = waited(g, lambda h, w, lag=lag: expected(seen, g, h, lag, w), window, first)
            naive = waited(g, lambda h, w, lag=lag: day_before(g, h, lag, w), window, first)
            most = 100.0 * (1.0 - own[2])
            cells = [f"{window} h", "now" if lag is None else f"{lag} h", f"{most:.1f} %"]
            for one in (own, naive):
                saved = 100.0 * (1.0 - one[1])
                cells += [f"{saved:.1f} %", f"{100.0 * saved / most:.0f} %"]
            print(f"| {' | '.join(cells)} |")


def main(folder: Path) -> None:
    table = read_table(folder / LONG, Factors.LIFECYCLE)
    told("16 grid zones, 2023, learnt from 2021 and 2022", table, 2 * 365 * 24)
    literature = Literature(folder)
    zones = literature.gcp_zones()
    whole = TraceTable(
        "gcp", zones.grid_zones, literature.intensities.start, HOUR_S, zones.g_per_kwh
    )
    told("30 grid zones, 2022, from its seventh week, learnt from nothing", whole, 40 * 24)
    told("the same, its second half", whole, 182 * 24)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)

"""Hours and places without limits: Sukprasert et al., EuroSys 2024.

How much one move saves against a move every hour, by continent; and what a forecast's error costs
who moves every hour to the zone that the forecast calls the greenest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from router.errors import TraceError
from router.lab.replicate.inputs import INTENSITIES, NOTICE, Floats, Literature, how_to_get
from router.lab.replicate.paper import PaperTable, Replication, paper_row

# The errors are drawn zone by zone and level by level from one stream that starts here.
ERROR_SEED: Final = 99
ERRORS_PCT: Final = tuple(range(0, 101, 10))
_ERROR_COST_PCT: Final = (
    0.0, 0.2743823099, 1.2608300116, 2.9931808651, 5.7510957212, 10.7510662744, 16.9176102212,
    23.9785466078, 30.4489563312, 37.1336796931, 43.7325546022,
)  # fmt: skip
# Zones by the part of their name before the hyphen; who is in none (ZA) counts globally only.
CONTINENTS: Final = {
    "Asia": "HK ID IL IN JP KR SG TR TW",
    "Americas": "BR CA CL PA PE US UY",
    "Europe": (
        "AT BA BE BG CH CY CZ DE DK EE ES FI FR GB GR HR HU IE IT LT LU LV NL NO PL PT RO SE SI SK"
    ),
    "Oceania": "AU NZ",
}
GLOBAL: Final = "Global"
_SAVED_G: Final = {
    "Asia": (159.6915839041, 167.5741649543),
    "Americas": (355.9370913636, 357.2897500394),
    GLOBAL: (352.4758895107, 353.5661018395),
    "Europe": (281.2426610096, 282.2714235667),
    "Oceania": (334.3880459883, 334.6522526093),
}
_ARTIFACT: Final = "umassos/decarbonization-potential, "


def erroneous(
    g_per_kwh: Floats, errors_pct: Sequence[int], seed: int = ERROR_SEED
) -> dict[int, Floats]:
    """Intensities (hours, zones) with each error, as the study makes them: by error.

    Each value is off by a factor of 1 plus or minus a uniform draw up to half of the error. A zone
    keeps the errors of the levels before, so that the error of a level is the sum of all up to it.
    """
    draws = np.random.RandomState(seed)
    hours = len(g_per_kwh)
    found = {error: np.empty_like(g_per_kwh) for error in errors_pct}
    for zone in range(g_per_kwh.shape[1]):
        series = g_per_kwh[:, zone].copy()
        for error in errors_pct:
            sign = draws.choice([-1, 1], size=hours)
            series *= 1.0 + draws.uniform(0.0, error / 100.0 / 2.0, size=hours) * sign
            found[error][:, zone] = series.round(2)
    return found


def chasing_cost_pct(actual: Floats, believed: Floats) -> float:
    """By how much the zone that ``believed`` calls the greenest is dearer than the greenest, as
    the mean of the hours' percentages; both (hours, zones). Of equals the first is taken.
    """
    picked = actual[np.arange(len(actual)), believed.argmin(axis=1)]
    best = actual.min(axis=1)
    return float((100.0 * (picked / best - 1.0)).mean())


def saved_g_per_kwh(g_per_kwh: Floats) -> tuple[float, float]:
    """What zones save on average against staying at home: moving once to the zone with the lowest
    mean, and every hour to the greenest; ``g_per_kwh`` (hours, zones).
    """
    mean_g = g_per_kwh.mean(axis=0)
    home = float(mean_g.mean())
    return home - float(mean_g.min()), home - float(g_per_kwh.min(axis=1).mean())


def members(continent: str, grid_zones: Sequence[str]) -> list[int]:
    """Places of a continent's zones in ``grid_zones``; all for ``GLOBAL``."""
    if continent == GLOBAL:
        return list(range(len(grid_zones)))
    codes = CONTINENTS[continent].split()
    return [place for place, zone in enumerate(grid_zones) if zone.partition("-")[0] in codes]


def study(literature: Literature) -> Replication:
    """Both tables."""
    table = literature.intensities
    return Replication(
        "hours",
        "Sukprasert et al., EuroSys 2024: what the hours are worth, and what an error costs",
        (
            _migrations(table.grid_zones, table.g_per_kwh),
            _errors(table.grid_zones, table.g_per_kwh),
        ),
        (NOTICE,),
    )


def _migrations(grid_zones: Sequence[str], g_per_kwh: Floats) -> PaperTable:
    rows = []
    for continent, published in _SAVED_G.items():
        places = members(continent, grid_zones)
        if not places:
            raise TraceError(f"{INTENSITIES}: no grid zone of {continent}; {how_to_get()}")
        saved = saved_g_per_kwh(g_per_kwh[:, places])
        rows.append(paper_row(continent, published, saved, 10))
    return PaperTable(
        "Saved by moving once, and every hour",
        "g/kWh below staying at home",
        _ARTIFACT + "sim_spatial/one_and_inf_migration/data_output/savings_mean.csv",
        "within",
        ("one migration", "a migration an hour"),
        tuple(rows),
        ("no limit on latency or capacity",),
    )


def _errors(grid_zones: Sequence[str], g_per_kwh: Floats) -> PaperTable:
    # The draws go by name, the choice among equals by annual mean.
    by_name = np.argsort(np.array(grid_zones), kind="stable")
    believed = erroneous(g_per_kwh[:, by_name], ERRORS_PCT)
    order = np.argsort(g_per_kwh[:, by_name].mean(axis=0), kind="stable")
    actual = g_per_kwh[:, by_name][:, order]
    rows = []
    for error, published in zip(ERRORS_PCT, _ERROR_COST_PCT, strict=True):
        seen = believed[error][:, order]
        off_pct = float(100.0 * (np.abs(seen / actual - 1.0)).mean())
        cost_pct = chasing_cost_pct(actual, seen)
        rows.append(
            paper_row(f"{error} %", (published, float("nan")), (cost_pct, off_pct), (10, 1))
        )
    return PaperTable(
        "Cost of moving every hour by a forecast with an error",
        "%",
        _ARTIFACT
        + "sim_what_ifs/prediction_error/data_output/spatial_savings/mean_inf_spatial.csv",
        "error, as the study calls it",
        ("more grams than without error", "mean absolute error of the values"),
        tuple(rows),
        (
            f"{len(grid_zones)} zones without limit on latency or capacity; errors by numpy's "
            f"legacy generator, seed {ERROR_SEED}",
            "the second column is not in the study: errors of the levels before stay in, so a "
            "level is not what its name says",
        ),
    )

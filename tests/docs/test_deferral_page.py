"""docs/deferral.md: its tables add up, and are those of the data where these are at hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from router.carbon.tables.table import read_table
from router.lab.replicate.inputs import Literature
from router.model import Factors

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "deferral.md"
DATA = ROOT.parent / "shared" / "data"
LONG = DATA / "ci-hourly-2021-2023-16zones" / "ci_lca_gco2_per_kwh_2021_2023.csv.gz"
if not PAGE.exists():
    pytest.skip(
        "WAITING NOT TRIED: docs/ is not part of this distribution", allow_module_level=True
    )

_ROW = re.compile(r"^\| (\d+) h \| (now|1 h) \| (.*) \|$", re.MULTILINE)


def tables() -> list[dict[tuple[int, str], list[float]]]:
    """(window, lag) -> least, scheduler, its share, day before, its share; %."""
    text = PAGE.read_text("utf-8").partition("<!-- waiting -->")[2].partition("<!-- end -->")[0]
    return [
        {
            (int(window), lag): [float(cell.rstrip(" %")) for cell in cells.split("|")]
            for window, lag, cells in _ROW.findall(part)
        }
        for part in text.split("**\n")[1:]
    ]


def test_shares_are_those_of_what_stands_beside_them() -> None:
    found = tables()
    assert len(found) == 3
    for table in found:
        assert len(table) == 6
        for most, *rows in table.values():
            for saved, share in (rows[:2], rows[2:]):
                slack = 100.0 * (0.05 + 0.05 * saved / most) / most + 0.5
                assert abs(100.0 * saved / most - share) <= slack


def test_with_years_of_history_most_of_the_least_is_reached() -> None:
    long, *_ = tables()
    for window in (8, 24):
        for lag in ("now", "1 h"):
            assert long[window, lag][2] >= 85


@pytest.mark.parametrize(("place", "first"), [(0, 2 * 365 * 24), (1, 40 * 24), (2, 182 * 24)])
def test_what_is_the_least_possible_is_that_of_the_data(place: int, first: int) -> None:
    if not LONG.is_file():
        pytest.skip("WAITING NOT TRIED: its data are not beside the repository")
    if place:
        g_per_kwh = Literature(DATA).gcp_zones().g_per_kwh
    else:
        g_per_kwh = read_table(LONG, Factors.LIFECYCLE).g_per_kwh
    table = tables()[place]
    for window in (2, 8, 24):
        count = len(g_per_kwh) - 24 - window - 1 - first
        ahead = [g_per_kwh[first + wait : first + wait + count] for wait in range(window + 1)]
        saved = 100.0 * (1.0 - np.min(ahead, axis=0).sum() / ahead[0].sum())
        assert table[window, "now"][0] == table[window, "1 h"][0]
        assert f"{saved:.1f}" == f"{table[window, 'now'][0]:.1f}"

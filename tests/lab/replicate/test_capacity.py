from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.replicate import capacity
from router.lab.replicate.capacity import greedy_g_per_kwh, kernel_g_per_kwh, least_g_per_kwh
from router.lab.replicate.paper import Replication
from tests.lab.replicate import made_up
from tests.lab.replicate.evidence import missing

# B is within 10 ms of both others, A and C only of B.
G = np.array([100.0, 200.0, 300.0])
RTT_MS = np.array([[0.0, 10.0, 50.0], [10.0, 0.0, 10.0], [50.0, 10.0, 0.0]])


def test_nobody_moves_without_reach() -> None:
    assert least_g_per_kwh(G, RTT_MS, 5.0, 0.5) == pytest.approx(200.0)
    assert greedy_g_per_kwh(G, RTT_MS, 5.0, 0.5) == pytest.approx(200.0)


def test_with_reach_and_room_all_go_to_the_cleanest() -> None:
    assert least_g_per_kwh(G, RTT_MS, 50.0, 0.99) == pytest.approx(100.0)
    assert greedy_g_per_kwh(G, RTT_MS, 50.0, 0.99) == pytest.approx(100.0)


def test_half_idle_the_cleanest_holds_two_sites_work() -> None:
    assert least_g_per_kwh(G, RTT_MS, 50.0, 0.5) == pytest.approx((100 + 100 + 200) / 3)


def test_the_greedy_pass_takes_room_from_who_has_no_other() -> None:
    """D reaches only the clean A; A, B and C reach A, B and C reach E too."""
    g = np.array([10.0, 20.0, 30.0, 900.0, 40.0])
    reach = np.full((5, 5), 99.0)
    for i, j in ((1, 0), (2, 0), (3, 0), (1, 4), (2, 4)):
        reach[i, j] = 1.0
    np.fill_diagonal(reach, 0.0)
    assert greedy_g_per_kwh(g, reach, 10.0, 0.5) > 1.5 * least_g_per_kwh(g, reach, 10.0, 0.5)


@pytest.mark.parametrize(("limit_ms", "idle_share"), [(5.0, 0.5), (50.0, 0.99), (50.0, 0.5)])
def test_the_kernel_finds_the_least_where_order_does_not_matter(
    limit_ms: float, idle_share: float
) -> None:
    least = least_g_per_kwh(G, RTT_MS, limit_ms, idle_share)
    assert kernel_g_per_kwh(G, RTT_MS, limit_ms, idle_share) == pytest.approx(least)


def test_who_finds_no_room_counts_at_home() -> None:
    """A takes B's room before B comes: B reaches nothing else."""
    g, rtt_ms = np.array([500.0, 100.0]), np.array([[0.0, 1.0], [99.0, 0.0]])
    assert kernel_g_per_kwh(g, rtt_ms, 10.0, 0.0) <= g.mean()


def least_by_trying(g: np.ndarray, reach: np.ndarray) -> float:
    """Half idle: each site's work goes to one place, two at most in each; splitting gains nothing
    in a transport problem with whole numbers."""
    best = np.inf
    for places in product(range(len(g)), repeat=len(g)):
        if all(reach[i, j] for i, j in enumerate(places)) and max(np.bincount(places)) <= 2:
            best = min(best, float(g[list(places)].mean()))
    return best


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 100.0))
def test_the_programme_finds_the_best_of_all_assignments(seed: int, limit_ms: float) -> None:
    rng = np.random.default_rng(seed)
    g = rng.uniform(20.0, 800.0, 4)
    rtt_ms = rng.uniform(0.0, 100.0, (4, 4))
    reach = (rtt_ms <= limit_ms) | np.eye(4, dtype=bool)
    least = least_g_per_kwh(g, rtt_ms, limit_ms, 0.5)
    assert least == pytest.approx(least_by_trying(g, reach))
    assert greedy_g_per_kwh(g, rtt_ms, limit_ms, 0.5) >= least - 1e-9
    assert least <= g.mean() + 1e-9


def test_the_study_runs_on_any_table(tmp_path: Path) -> None:
    found = capacity.study(made_up.write(tmp_path))
    figure, beyond = found.tables
    home = made_up.intensities()[:, [1, 2, 4]].mean()
    assert figure.rows[0].cells[0].ours == pytest.approx(home)
    assert [row.cells[0].ours for row in figure.rows[1:3]] == pytest.approx([home, home])
    assert figure.remarks[0].startswith("3 grid zones")
    assert len(beyond.rows) == 5


@cache
def the_real_study() -> Replication:
    return capacity.study(made_up.the_real_literature())


def test_every_published_figure_comes_out() -> None:
    found = the_real_study()
    compared = [cell for cell in found.tables[0].cells() if cell.is_compared]
    assert len(compared) == 12
    assert all(cell.is_same for cell in compared)
    rows = {row.label: row for row in found.tables[0].rows}
    kernel = rows["half idle, carbon-first of this kernel"].cells
    greedy = rows["half idle, the study's greedy pass"].cells
    assert kernel[2].ours < 0.96 * greedy[2].ours
    assert max(cell.ours for cell in rows["carbon-first above the least, %"].cells) < 4.0
    least = rows["half idle, least possible"]
    assert [cell.text(cell.ours) for cell in least.cells] == [
        "372.33", "261.59", "225.60", "208.44", "206.20", "206.20",
    ]  # fmt: skip


def test_the_page_shows_them() -> None:
    assert missing(the_real_study().tables[0]) == []

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from router.lab.replicate import hybrid
from router.lab.replicate.paper import Replication
from tests.lab.replicate.evidence import missing


@cache
def the_study() -> Replication:
    return hybrid.study()


def naive(workload, times, name: str, alpha: float) -> list[int]:
    """The study's policies as its text tells them, request by request."""
    rtt_ms = np.array(hybrid._RTT_MS, np.float64)
    chosen = []
    for n in range(len(workload.hour)):
        rtt, g = rtt_ms[workload.user[n]], workload.g_per_kwh[workload.hour[n]]
        total = rtt + times.inference_ms[n] + hybrid._JITTER_ALLOWANCE_MS
        if name == "Latency-First":
            cost = rtt
        elif name == "Carbon-First":
            cost = g
        elif name == "Constrained Hybrid":
            cost = np.where(total <= hybrid._OBJECTIVE_MS[workload.model[n]], g, math.inf)
        else:
            scaled_rtt = np.clip((rtt - 5.0) / 225.0, 0.0, 1.0)
            scaled_g = np.clip((g - 5.0) / 445.0, 0.0, 1.0)
            cost = alpha * scaled_rtt + (1.0 - alpha) * scaled_g
        chosen.append(int(np.argmin(cost)))
    return chosen


@pytest.mark.parametrize("name", hybrid.policies())
def test_the_kernel_decides_as_the_study_describes(name: str) -> None:
    workload = hybrid.make_workload(hours=26, requests_an_hour=20, seed=7)
    times = hybrid.draw_times(workload, np.random.default_rng(7))
    limits = hybrid.known_limits_ms(workload, times) if name == "Constrained Hybrid" else None
    outcome = hybrid.route(workload, times, hybrid.policies()[name], limits)
    alpha = float(name.split()[1]) if name.startswith("Hybrid") else math.nan
    expected = np.bincount(naive(workload, times, name, alpha), minlength=5)
    assert outcome.regions == tuple(expected.tolist())


def test_the_workload_is_what_the_parameters_say() -> None:
    workload = hybrid.make_workload()
    assert len(workload.hour) == 33_600
    assert np.bincount(workload.user).tolist() == [13419, 6739, 8435, 5007]
    assert workload.g_per_kwh.shape == (168, 5)
    assert (workload.g_per_kwh.min(axis=0) >= 0.72 * np.array([323, 79, 276, 25, 367])).all()


def test_predicted_limits_are_the_same_for_every_request_of_a_model() -> None:
    workload = hybrid.make_workload(hours=2)
    limits = hybrid.predicted_limits_ms(workload)
    assert len(set(limits[workload.model == 0].tolist())) == 1
    assert limits[workload.model == 0][0] == pytest.approx(100 - 18 - 1.6449 * 4 - 9, abs=1e-3)


def test_every_published_figure_comes_out() -> None:
    compared = [cell for table in the_study().tables for cell in table.cells() if cell.is_compared]
    assert len(compared) == 7 * 5 + 7 * 10
    assert all(cell.is_same for cell in compared)


def test_the_page_shows_them() -> None:
    assert missing(the_study().tables[0]) == []


def test_not_knowing_the_inference_time_costs_grams() -> None:
    known, predicted = ([cell.ours for cell in row.cells] for row in the_study().tables[2].rows)
    assert known[3] < predicted[3] < 268.7
    assert predicted[2] < 0.1

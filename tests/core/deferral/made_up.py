"""Outlooks and jobs for tests of what can wait."""

import numpy as np

from router.core.deferral.outlook import DeferralOutlook
from router.core.deferral.work import WaitingJob, WaitingWork
from router.units import HOUR_S

NOW = 1_700_000_000.0 // HOUR_S * HOUR_S


def outlook(grid, *, awake=10.0, asleep=0.0, least=None, ratio=1.0, half_width=0.2, **other):
    """Of model m; ``grid``: g/kWh (regions, hours); places: one figure, or (regions, hours)."""
    g_per_kwh = np.asarray(grid, float)
    regions = len(g_per_kwh)
    room = np.ones((1, *g_per_kwh.shape))
    least = awake if least is None else least
    figures = {
        "models": ("m",),
        "regions": tuple(f"r{at}" for at in range(regions)),
        "start": NOW,
        "step_s": HOUR_S,
        "g_per_kwh": g_per_kwh * np.array([1 - half_width, 1, 1 + half_width])[:, None, None],
        "pue": np.ones(regions),
        "awake_places": room * awake,
        "asleep_places": room * asleep,
        "least_places": room * least,
        "woken_ratio": np.full((1, regions), float(ratio)),
    }
    return DeferralOutlook(**figures | other)


def job(hours, *, run_s=60.0, joules=3.6e6, model="m", places=1.0, regions=(), arrived_at=NOW):
    """Due so many hours from NOW."""
    due = NOW + hours * HOUR_S
    return WaitingJob(arrived_at, due, model, joules, run_s, places, frozenset(regions))


def work(*jobs):
    return WaitingWork.of(jobs)

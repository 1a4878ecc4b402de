"""Views of a whole span at once against the views themselves and the snapshots built of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import embedded
from router.carbon.tables.table import TraceTable
from router.core.columns import build_snapshot
from router.core.rungs import CI_HOURS
from router.lab.sim.engine.build import build_world, show, survey
from router.lab.sim.engine.carbon import CarbonViews
from router.lab.sim.grid.forecasted import Forecasted
from router.lab.sim.grid.signal_columns import (
    PrecomputedSignal,
    parts_of,
    side_by_side,
    signal_columns,
)
from router.lab.sim.grid.signals import Perfect, Persistence, Standing, Tabled
from router.model import Budget, StaleCarbon
from router.units import HOUR_S
from tests.factories import SIGNAL, policy
from tests.lab.sim import worlds as w

HOURS = 24 * 9
NONE = Standing(SIGNAL, None, {})


def table(start: float, zones: tuple[str, ...]) -> TraceTable:
    hours = np.arange(HOURS)
    rng = np.random.default_rng(2)
    values = np.stack(
        [300 + 80 * np.sin(hours / 24 * math.tau + i) + np.cumsum(rng.normal(0, 3, HOURS))
         for i, _ in enumerate(zones)], axis=1,
    )  # fmt: skip
    return TraceTable("t", zones, start, HOUR_S, values)


def signal(kind: str, of: TraceTable, standing: Standing = NONE, lag_s: float = 5400.0):
    if kind == "perfect":
        return Perfect(of, SIGNAL)
    if kind == "persistence":
        return Persistence(of, SIGNAL, lag_s, standing)
    if kind == "file":
        return Tabled(of, SIGNAL, lag_s, standing)
    return Forecasted(of, SIGNAL, lag_s, standing, Climatology.load(), 4 * 86400.0)


KINDS = ("perfect", "persistence", "file", "forecaster")


@pytest.mark.parametrize("stale", list(StaleCarbon))
@pytest.mark.parametrize("kind", KINDS)
def test_every_update_shows_what_a_snapshot_of_the_view_shows(kind: str, stale: StaleCarbon):
    zones = ("grid-a", "grid-b")
    decides = policy(signal=SIGNAL, stale_carbon=stale, stale_after_s=2.4 * HOUR_S)
    fleet = w.fleet(*[(region, w.SMALL, "m") for region in "aab"])
    rows = [(0.0, 0, 0, 0, 0, 100, 50, Budget())]
    whole = w.simulation(fleet, rows, dict.fromkeys(zones, 300.0), hours=48)
    of = table(whole.start - 6 * 86400.0 + HOUR_S, zones)
    of.g_per_kwh[130:139, 0] = np.nan
    known, again = signal(kind, of), signal(kind, of)
    whole = replace(whole, signal=known, duration_s=40 * HOUR_S + 1200.0)
    site = survey(whole)
    ours, theirs = (build_world(whole, decides, site, (1, 0, 1)) for _ in range(2))
    views = CarbonViews(whole, decides, site)
    times = list(again.updates(whole.start, whole.start + whole.duration_s))
    assert views.at_s == [at - whole.start for at in times]
    for update, now in enumerate(times):
        views.show(ours, update)
        snapshot = build_snapshot(site.layout, decides, again.view(now), {}, now, update + 1)
        show(theirs, site, snapshot)
        assert np.array_equal(ours.columns.tables, theirs.columns.tables), (update, now)
        assert np.array_equal(ours.columns.rungs, theirs.columns.rungs)
        assert np.array_equal(ours.scalars, theirs.scalars)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_is_told_as_such(kind: str):
    start = 1_652_313_600.0
    of = table(start, ("US-CAL-CISO", "SG", "NOWHERE"))
    known = signal(kind, of, Standing(SIGNAL, Climatology.load(), embedded()))
    found = signal_columns(known, start - 3 * HOUR_S, start + 8 * HOUR_S)
    for update, now in enumerate(found.at.tolist()):
        view = known.view(now)
        for place, zone in enumerate(found.grid_zones):
            if zone not in view:
                assert np.isnan(found.g_per_kwh[update, place]).all()
                continue
            slots = view[zone].slots
            wanted = [slot.g_per_kwh for slot in slots[:CI_HOURS]]
            wanted += wanted[-1:] * (CI_HOURS - len(wanted))
            assert found.g_per_kwh[update, place].tolist() == wanted
            assert found.observed_at[update, place] == slots[0].observed_at
            assert found.expires_at[update, place] == slots[0].expires_at


def test_zones_told_apart_are_told_as_together():
    start = 1_652_313_600.0
    zones = tuple(f"z{number:02d}" for number in range(14))
    whole = signal("forecaster", table(start, zones))
    span = start + 4 * 86400.0, start + 5 * 86400.0
    parts = parts_of(whole)
    assert len(parts) == 2
    together, one = (
        side_by_side([signal_columns(p, *span) for p in parts]),
        signal_columns(whole, *span),
    )
    assert together.grid_zones == one.grid_zones == zones
    assert np.array_equal(together.g_per_kwh, one.g_per_kwh)
    assert np.array_equal(together.observed_at, one.observed_at)
    views = [whole.view(at)["z13"].slots[0].g_per_kwh for at in one.at]
    assert one.g_per_kwh[:, 13, 0] == pytest.approx(views, rel=1e-9)
    told = PrecomputedSignal(whole, *span, together)
    assert signal_columns(told, *span) is together
    assert list(told.updates(*span)) == one.at.tolist()
    assert parts_of(signal("perfect", table(start, zones)))[0].view(start)["z00"].slots


def test_a_signal_of_nothing_tells_nothing():
    of = table(1_652_313_600.0, ("a",))
    found = signal_columns(signal("persistence", of), 1_600_000_000.0, 1_600_007_200.0)
    assert found.grid_zones == () and found.g_per_kwh.shape[1:] == (0, CI_HOURS)

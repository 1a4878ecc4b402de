"""Configuration -> objects: every source spec, the clock, the view, the limits."""

import math
import random
from typing import get_args

import pytest

from router.app import compose
from router.app.carbon import build as carbon_room
from router.clock import ReplayClock, WallClock
from router.config import endpoints
from router.config.settings import (
    ClockSettings,
)
from router.core import kernel_rows as k
from router.core.latency import z_of
from router.core.layout import Layout
from tests.app.support import START
from tests.config.samples import loaded
from tests.factories import NOW


def test_the_clock_is_the_wall_unless_a_day_is_replayed():
    assert type(compose.build_clock(None)) is WallClock
    clock = compose.build_clock(ClockSettings(START, 1440.0))
    assert isinstance(clock, ReplayClock)
    assert START <= clock.now() < START + 1440.0 * 60.0


async def test_a_view_holds_the_coming_day_beside_the_live_board(tmp_path):
    config = loaded(tmp_path)
    carbon = carbon_room.build_carbon(config.settings.carbon, NOW)
    zones = carbon_room.grid_zones(config.fleet)
    await carbon.chain.refresh(zones, NOW)
    layout = Layout(config.fleet)
    board = compose.build_board(config, layout)
    view = compose.build_view(config, layout, board, carbon.chain, NOW, 5)
    assert view.board is board
    assert (view.snapshot.version, view.snapshot.built_at) == (5, NOW)
    assert [len(view.snapshot.forecasts[zone].slots) for zone in zones] == [24, 24]


async def test_a_static_policy_decides_by_annual_means(tmp_path):
    config = loaded(tmp_path, {"policy": "static-greenest"})
    carbon = carbon_room.build_carbon(config.settings.carbon, NOW)
    zones = carbon_room.grid_zones(config.fleet)
    await carbon.chain.refresh(zones, NOW)
    layout = Layout(config.fleet)
    board = compose.build_board(config, layout)
    snapshot = compose.build_view(config, layout, board, carbon.chain, NOW, 1).snapshot
    means = {zone: carbon.chain.annual_mean(zone).g_per_kwh for zone in zones}
    columns = snapshot.columns["llama-3.1-8b", ""]
    row = [endpoint.name for endpoint in columns.candidates.endpoints].index("west-0")
    assert columns.table[k.CI_FROM, row] == pytest.approx(means["US-CAL-CISO"])


def test_a_board_takes_the_policys_quantile_and_the_seats_before_it(tmp_path):
    config = loaded(tmp_path)
    before = compose.build_board(config, Layout(config.fleet))
    after = compose.build_board(config, Layout(config.fleet), before)
    assert after.seats["west-0"] is before.seats["west-0"]
    z = z_of(0.95)
    assert before.seats["west-0"].latency_errors == pytest.approx(
        (1.0 + 0.1 * z, 1.0 + z, math.exp(0.1 * z_of(0.75)), 0.0)
    )


def test_limits_are_what_the_operator_set(tmp_path):
    changes = {
        "retry": {"max_attempts": 5}, "server": {"deadline_margin_ms": 20, "max_wait_ms": 70},
        "network": {"kwh_per_gb": 0.003},
    }  # fmt: skip
    limits = compose.build_limits(loaded(tmp_path, changes).settings)
    assert limits == (5, compose.NO_DEADLINE_TIMEOUT_S, 0.02, 0.003, 0.07)


async def test_every_protocol_that_a_file_may_name_has_a_transport(tmp_path):
    upstreams = compose.build_upstreams(loaded(tmp_path).settings.server, lambda: None)
    assert tuple(upstreams) == get_args(endpoints.Protocol)
    for upstream in upstreams.values():
        await upstream.backend.close()


def test_randomness_can_be_repeated():
    assert compose.build_rng(3).random() == random.Random(3).random()
    assert compose.build_rng().random() != compose.build_rng().random()

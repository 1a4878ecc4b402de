import asyncio

import aiohttp
import pytest
from aiohttp import web

from router.app.loading import load
from router.lab.demo import fleet as demo_fleet
from router.lab.demo.grid import replay_sources
from router.lab.loopback.children import free_ports
from router.lab.loopback.watch import Meter, joules
from router.lab.replay.timed import Period
from router.units import J_PER_KWH

TEXT = """\
# TYPE emulated:energy_joules_total counter
emulated:energy_joules_total{model_name="a"} 100.5
emulated:energy_joules_total{model_name="b"} 20
emulated:idle_joules_total{model_name="a"} 7
emulated:idle_joules_total{model_name="b"} 3
"""


def test_joules_sum_over_models():
    assert joules(TEXT) == (120.5, 10.0)
    assert joules("") == (0.0, 0.0)


async def test_the_meter_books_each_hour_at_its_intensity(tmp_path):
    (port,) = free_ports(1)
    ports = list(range(20000, 20000 + demo_fleet.endpoint_count()))
    path = demo_fleet.write(tmp_path, demo_fleet.document(ports, 19001, 19002, port, 60.0))
    config = load(path)
    period = Period(60.0, demo_fleet.DAY_START, 1440.0)
    grid = await replay_sources(config, period)
    reading = {"total": 0.0, "idle": 0.0}

    async def metrics(request):
        mine = "/california-8b-0/" in request.path
        total, idle = (reading["total"], reading["idle"]) if mine else (0.0, 0.0)
        name = '{model_name="m"}'
        return web.Response(
            text=f"emulated:energy_joules_total{name} {total}\n"
            f"emulated:idle_joules_total{name} {idle}\n"
        )

    app = web.Application()
    app.router.add_get("/{path:.*}", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        meter = Meter(config.fleet, grid.actual, period)
        async with aiohttp.ClientSession() as session:
            reading.update(total=500.0, idle=500.0)
            await meter.read(session, 0.0)
            reading.update(total=1500.0, idle=700.0)
            await meter.read(session, 2.5)
            reading.update(total=1800.0, idle=900.0)
            await meter.read(session, 60.5)
    finally:
        await runner.cleanup()
    drawn = meter.energy()
    pue = demo_fleet.PUE
    assert drawn.busy_j == pytest.approx((800.0 + 100.0) * pue)
    # What was drawn before the first reading, and idle draw after the period, do not count.
    assert drawn.idle_j == pytest.approx(200.0 * pue)
    first = grid.actual["US-CAL-CISO"].at(demo_fleet.DAY_START).g_per_kwh
    assert drawn.idle_g == pytest.approx(200.0 * pue * first / J_PER_KWH)


async def test_a_meter_that_cannot_be_read_is_an_error(tmp_path):
    (port,) = free_ports(1)
    ports = list(range(20000, 20000 + demo_fleet.endpoint_count()))
    path = demo_fleet.write(tmp_path, demo_fleet.document(ports, 19001, 19002, port, 60.0))
    meter = Meter(load(path).fleet, {}, Period(60.0, demo_fleet.DAY_START, 1440.0))
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await meter.run(session, asyncio.get_running_loop().time())

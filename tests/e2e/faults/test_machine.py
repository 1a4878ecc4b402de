"""What a gateway is left without: descriptors, disk, a reader of its log, carbon data, the time."""

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from router.clock import WallClock
from tests.e2e.faults.fleet import How, Pair, green
from tests.e2e.faults.fronts import OK, TORN, Load, caller, callers
from tests.e2e.faults.loads import answered, beside, under_load
from tests.e2e.faults.stepped_clock import StepClock
from tests.e2e.harness import CLEAN, Gateway, ask, get, port_of, until
from tests.fakes.electricity_maps import FakeElectricityMaps
from tests.fakes.energy_charts import FakeEnergyCharts
from tests.fakes.faults import Fault, What
from tests.fakes.serving import serving
from tests.fakes.world import GridZone, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAIRS = {"calm": Pair(How.CALM), "held": Pair(How.SERVED)}
FILES = 128


class Poor(Gateway):
    """It may have FILES descriptors from its start on."""

    wrapped = ("prlimit", f"--nofile={FILES}:{FILES}")


async def connect(address):
    return await asyncio.open_connection("127.0.0.1", port_of(address))


async def test_a_gateway_of_few_descriptors_keeps_some_for_who_asks_and_for_servers(
    running, gateway
):
    """Idle strangers on both fronts; then more work over HTTP, where each request takes two."""
    server = running.servers[green("held", "openai")]
    async with beside(running, "poor", kind=Poor) as poor:
        addresses = [poor.address, poor.config["server"]["http"]]
        async with callers(poor) as early:
            for one in early:
                assert (await one.whole("calm")).status == OK
            strangers = [await connect(address) for address in addresses for _ in range(150)]
            for one in early:
                assert (await one.whole("calm")).status == OK
                # Over HTTP by a connection that it did not have yet.
                assert (await one.whole("held")).place == green("held", one.front)
            assert (await poor.readiness())[1]["status"] == "ready"
            for _, writer in strangers:
                writer.close()
        server.pause_s = 1.0
        async with caller(poor, "openai") as one:
            load = Load(one, "held")
            await load.send(150, pause_s=0.0)
        server.pause_s = 0.0
        # Connections beyond what can be served are closed as they come.
        assert {each.status for each in load.ended} == {OK, TORN}
        assert set(load.places) == {green("held", "openai")}
        assert (await poor.readiness())[1]["status"] == "ready"
        assert not poor.events("endpoint is out")


async def test_a_gateway_that_runs_out_of_descriptors_blames_no_server(running, gateway):
    """Its limit is taken down under it, so that connecting does fail."""
    server = running.servers[green("held", "openai")]
    server.pause_s = 1.0
    async with beside(running, "robbed") as robbed, caller(robbed, "openai") as one:
        assert (await one.whole("calm")).status == OK
        held = len(list(Path(f"/proc/{robbed.pid}/fd").iterdir()))
        _, hard = resource.prlimit(robbed.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(robbed.pid, resource.RLIMIT_NOFILE, (held + 100, hard))
        load = Load(one, "held")
        # Fewer than can connect here, more than can go on to a server.
        await load.send(90, pause_s=0.0)
        assert load.places
        reasons = {each.reason for each in load.lost if each.status != TORN}
        assert reasons == {"upstream_unreached"}
        assert not robbed.events("endpoint is out")
        server.pause_s = 0.0
        assert (await one.whole("held")).place == green("held", "openai")

        async def idle():
            # The admin port may be without a descriptor, too, until kept connections are closed.
            with contextlib.suppress(OSError):
                return await robbed.idle()

        await until(idle, "in-flight back to zero")


async def test_a_full_disk_costs_rows_of_the_log_and_no_request(running, gateway, small_disk):
    """It holds the log of requests and what is to outlive a restart."""
    log = {"requests": {"file": str(small_disk / "requests.csv")}}
    state = {"file": str(small_disk / "learned")}
    async with beside(running, "full", log=log, state=state) as full:

        async def rows(outcome):
            return await full.total("request_log_rows_total", outcome=outcome)

        async def more(outcome, than):
            return await rows(outcome) > than

        async with under_load(full) as (loads,):
            await until(lambda: more("written", 0), "rows being written")
            filler = small_disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            await until(lambda: more("lost", 0), "rows being lost")
            await answered(loads)
            filler.unlink()
            written = await rows("written")
            await until(lambda: more("written", written), "rows being written again")
        for load in loads:
            assert not load.lost
        lines = (small_disk / "requests.csv").read_text().splitlines()
        assert len({line.count(",") for line in lines}) == 1


class Mute(Gateway):
    """Its log goes to a pipe that is full, and that nobody reads."""

    def sink(self):
        self.log.touch()
        self.unread, written = os.pipe()
        size = fcntl.fcntl(written, fcntl.F_SETPIPE_SZ, 4096)
        os.write(written, bytes(size))
        return os.fdopen(written, "wb")


async def test_a_log_that_nobody_reads_holds_up_nothing_not_even_the_end(running, gateway):
    async with beside(running, "mute", kind=Mute) as mute:
        try:
            async with callers(mute) as both:
                for one in both:
                    refused = Load(one, "calm", x_residency="mars")
                    await refused.send(200, pause_s=0.0)
                    assert not refused.places
                    well = Load(one, "calm")
                    await well.send(20)
                    assert not well.lost
            mute.tell(signal.SIGTERM)
            assert await asyncio.to_thread(mute.wait, 10.0) == 0
        finally:
            os.close(mute.unread)


async def test_a_chain_of_providers_that_is_dead_costs_no_request(running, gateway):
    """Two, and nothing else to ask: one breaks off, one has errors for all."""
    key = running.folder / "em.key"
    key.write_text("em-key\n")
    zone = GridZone("DE", coal=0.3, nuclear=0.0, wind=0.4, solar=0.0, hydro=0.1)
    world = World(WallClock().now(), zones={"DE": zone})
    maps, charts = FakeElectricityMaps(world, ["DE"]), FakeEnergyCharts(world, {"de": "DE"})
    maps.faults.append(Fault(What.DEAD))
    charts.faults.append(Fault(What.SERVER_ERROR))
    regions = {
        name: {**region, "grid_zone": "DE"}
        for name, region in running.fleet.config["regions"].items()
    }
    async with serving(maps) as maps_url, serving(charts) as charts_url:
        sources = [
            {"kind": "electricity_maps", "base_url": maps_url, "key_file": str(key)},
            {"kind": "energy_charts", "base_url": charts_url, "factors": "lifecycle"},
        ]
        dark = {"sources": sources, "refresh_s": 0.2}
        async with beside(running, "dark", carbon=dark, regions=regions) as blind:
            async with under_load(blind) as (loads,):
                await answered(loads, 40)
            for load in loads:
                assert not load.lost
            assert maps.calls and charts.calls
            assert (await blind.readiness())[0] == 200
            assert await blind.total("carbon_calls_total", outcome="provider_unavailable") >= 2.0
            told = (await blind.metrics())["carbon_router_grid_intensity_g_per_kwh"]
            # What ships with the gateway, told as what it is, and never 0.
            assert [(of["kind"], g_per_kwh > 100.0) for of, g_per_kwh in told] == [
                ("annual_mean", True)
            ]
            assert "em-key" not in blind.log.read_text()


HOUR_S, DAY_S = 3600, 86_400


def two_days(folder):
    """A table of the two days before now, and of a few hours to come."""
    now = datetime.fromtimestamp(WallClock().now(), UTC).replace(minute=0, second=0, microsecond=0)
    rows = [
        f"{(now - timedelta(hours=hour)).isoformat()},{500 + hour}" for hour in range(48, -6, -1)
    ]
    (folder / "hours.csv").write_text("\n".join(["datetime,GREEN", *rows]) + "\n")
    return str(folder / "hours.csv")


async def test_steps_of_the_clock_cost_no_request_and_what_is_old_is_told(
    running, gateway, tmp_path
):
    clock = StepClock(tmp_path)
    sources = [
        {"kind": "trace", "file": two_days(tmp_path)},
        {"kind": "static", "g_per_kwh": CLEAN},
    ]

    class Stepped(Gateway):
        environment = clock.environment

    carbon = {"sources": sources, "refresh_s": 0.2}
    async with beside(running, "stepped", kind=Stepped, carbon=carbon) as stepped:
        async with under_load(stepped) as (loads,), stepped.client() as client:

            async def source():
                told = await client.receipt(ask("calm"), x_residency="eu")
                assert float(told["intensity-age-s"]) >= 0.0
                assert float(told["gco2e"]) > 0.0
                return told["intensity-source"]

            async def lives_at(step_s):
                _, view = await get(stepped.admin, "/snapshot")
                return abs(json.loads(view)["now"] - WallClock().now() - step_s) < 60.0

            for step_s, known in (
                (0, True),
                (2 * HOUR_S, True),
                # What it took in ahead of that counts no more.
                (-3 * HOUR_S, True),
                # Nothing is of these times: it stands on what is usual.
                (400 * DAY_S, False),
                (-400 * DAY_S, False),
                (0, True),
            ):
                clock.to(step_s)
                await until(lambda s=step_s: lives_at(s), "the clock stepping")

                async def as_known(known=known):
                    return (await source()).startswith("static") != known

                await until(as_known, f"the table being {'' if known else 'not '}of use")
                await answered(loads, 10)
                assert (await stepped.readiness())[0] == 200
        for load in loads:
            assert not load.lost
        assert not stepped.events("endpoint is out")
        assert "Traceback" not in stepped.log.read_text()

"""The admin port over real sockets, and what counts as ready."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from router.telemetry.admin import (
    MAX_CONNECTIONS,
    AdminServer,
    Liveness,
    Readiness,
    Reason,
    assess,
)
from router.telemetry.metrics import READINESS, Metrics
from router.telemetry.view import FleetView, ServedView
from router.trust.secrets import Secret
from tests.fakes.secure import (
    Source,
    authority,
    client_context,
    material,
    server_certificate,
    server_tls,
)

READY = Readiness(())


class FakeGateway:
    """Answers the admin port with whatever the test puts in."""

    def __init__(self) -> None:
        self.state = READY
        self.seen: FleetView | None = None
        self.life = Liveness(True, ())

    def liveness(self) -> Liveness:
        return self.life

    def readiness(self) -> Readiness:
        return self.state

    def fleet(self) -> FleetView | None:
        return self.seen


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def server(gateway: FakeGateway) -> AdminServer:
    registry = CollectorRegistry()
    return AdminServer(gateway, Metrics(registry), registry)


@pytest.fixture
async def client(server: AdminServer) -> AsyncIterator[aiohttp.ClientSession]:
    port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await server.stop()


async def test_readiness_is_a_gauge_with_one_of_three_words(
    gateway: FakeGateway, client: aiohttp.ClientSession
) -> None:
    for reasons in ((), (Reason("a", "", False),), (Reason("a", "", True),)):
        gateway.state = Readiness(reasons)
        async with client.get("/metrics") as reply:
            lines = (await reply.text()).splitlines()
        found = dict(line.rsplit(" ", 1) for line in lines if "_readiness{" in line)
        assert found == {
            f'carbon_router_readiness{{status="{status}"}}': f"{status == gateway.state.status:.1f}"
            for status in READINESS
        }


async def test_a_page_of_one_endpoint_is_found_by_its_address(
    gateway: FakeGateway, client: aiohttp.ClientSession, view: FleetView
) -> None:
    served = (
        ServedView('a"b', "", math.inf, math.nan, None, 2.5e-4),
        ServedView("dark", "", math.inf, math.nan, None),
    )
    first = view.endpoints[0]._replace(served=served)
    gateway.seen = view._replace(endpoints=(first,))
    async with client.get(f"/endpoints/{first.address}/metrics") as reply:
        (family,) = text_string_to_metric_families(await reply.text())
    (sample,) = family.samples
    assert sample.name == "carbon_router_gco2e_per_token"
    assert (sample.labels, sample.value) == ({"model": 'a"b'}, 2.5e-4)
    async with client.get("/endpoints/10.9.9.9:1/metrics") as reply:
        assert reply.status == 404


async def test_tasks_are_counted_and_go_as_they_end(client: aiohttp.ClientSession) -> None:
    async def tasks() -> float:
        async with client.get("/metrics") as reply:
            (line,) = [
                line
                for line in (await reply.text()).splitlines()
                if line.startswith("carbon_router_tasks ")
            ]
            return float(line.split()[1])

    before = await tasks()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(asyncio.sleep(3600.0)) for _ in range(50)]
        assert await tasks() >= before + 50
        for task in waiting:
            task.cancel()
    assert await tasks() < before + 50


async def test_metrics_are_fresh_at_every_scrape(
    client: aiohttp.ClientSession, gateway: FakeGateway, view: FleetView
) -> None:
    async with client.get("/metrics") as reply:
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "carbon_router_endpoint_in_flight{" not in await reply.text()
    gateway.seen = view
    async with client.get("/metrics") as reply:
        assert 'carbon_router_endpoint_in_flight{endpoint="west-0"} 3.0' in await reply.text()
    gateway.seen = view._replace(now=view.now + 40.0)
    async with client.get("/metrics") as reply:
        page = await reply.text()
    assert 'carbon_router_grid_intensity_age_seconds{grid_zone="US-CAL-CISO"} 100.0' in page


async def test_a_round_sets_the_gauges_without_a_scrape(
    gateway: FakeGateway, view: FleetView
) -> None:
    registry = CollectorRegistry()
    server = AdminServer(gateway, Metrics(registry), registry)
    await server.refresh(interval_s=0.0)
    assert registry.get_sample_value("carbon_router_snapshot_version") is None
    gateway.seen = view
    await server.refresh(interval_s=0.0)
    assert registry.get_sample_value("carbon_router_snapshot_version") == 7.0


async def test_healthz_does_not_depend_on_readiness(
    client: aiohttp.ClientSession, gateway: FakeGateway
) -> None:
    gateway.state = Readiness((Reason("draining", "", True),))
    async with client.get("/healthz") as reply:
        assert (reply.status, await reply.text()) == (200, "ok\n")


async def test_healthz_tells_of_the_other_processes_and_fails_only_without_a_parent(
    client: aiohttp.ClientSession, gateway: FakeGateway
) -> None:
    frozen = Reason("worker_frozen", "worker 2 stands still", False)
    gateway.life = Liveness(True, (frozen,))
    async with client.get("/healthz") as reply:
        told = await reply.text()
        assert (reply.status, told) == (200, "ok\nworker_frozen: worker 2 stands still\n")
    gateway.life = Liveness(False, ())
    async with client.get("/healthz") as reply:
        assert (reply.status, await reply.text()) == (503, "dead\n")


def test_a_refused_file_and_notes_degrade_and_do_not_block() -> None:
    state = assess(
        draining=False, has_snapshot=True, dead_tasks=[], models=["a"], models_without_endpoint=[],
        reload_refused="gateway.yaml: line 3: " + "x" * 10_000,
        notes=[Reason("worker_down", "worker 2", False)],
    )  # fmt: skip
    assert (state.ready, state.status) == (True, "degraded")
    assert [reason.reason for reason in state.reasons] == ["reload_refused", "worker_down"]
    assert "gateway.yaml: line 3" in state.reasons[0].detail
    assert len(state.reasons[0].detail) <= 2000


async def test_readyz_gives_every_reason(
    client: aiohttp.ClientSession, gateway: FakeGateway
) -> None:
    async with client.get("/readyz") as reply:
        assert reply.status == 200
        assert await reply.json() == {"ready": True, "status": "ready", "reasons": []}
    gateway.state = assess(
        draining=True, has_snapshot=True, dead_tasks=["load"], models=["a", "b"],
        models_without_endpoint=["b"],
    )  # fmt: skip
    async with client.get("/readyz") as reply:
        assert reply.status == 503
        body = await reply.json()
    assert body["status"] == "not_ready"
    assert [reason["reason"] for reason in body["reasons"]] == [
        "draining", "background_task_dead", "no_healthy_endpoint"
    ]  # fmt: skip
    assert "b" in body["reasons"][2]["detail"]


async def test_snapshot_is_json_without_invented_figures(
    client: aiohttp.ClientSession, gateway: FakeGateway, view: FleetView
) -> None:
    async with client.get("/snapshot") as reply:
        assert reply.status == 503
    gateway.seen = view
    async with client.get("/snapshot") as reply:
        assert reply.status == 200
        body = json.loads(await reply.text(), parse_constant=pytest.fail)
    west, dark = body["regions"]
    assert west["intensity"] == {
        "g_per_kwh": 250.0, "low_g_per_kwh": 240.0, "high_g_per_kwh": 260.0, "basis": "average",
        "factors": "lifecycle", "kind": "measured", "source": "trace", "age_s": 60.0,
        "stale": False,
    }  # fmt: skip
    assert dark["intensity"] is None
    assert [endpoint["state"] for endpoint in body["endpoints"]] == [
        "healthy", "ejected", "probing"
    ]  # fmt: skip
    assert body["endpoints"][0]["load"]["kv_fraction"] is None
    assert body["endpoints"][1]["load"] is None
    assert body["snapshot"] == {"version": 7, "age_s": 1.5}


async def test_other_paths_and_methods_are_refused(client: aiohttp.ClientSession) -> None:
    async with client.get("/") as reply:
        assert reply.status == 404
    async with client.post("/readyz", data=b"x" * 10_000) as reply:
        assert reply.status == 405


async def test_many_scrapes_at_once(
    client: aiohttp.ClientSession, gateway: FakeGateway, view: FleetView
) -> None:
    gateway.seen = view

    async def scrape() -> bytes:
        async with client.get("/metrics") as reply:
            assert reply.status == 200
            return await reply.read()

    pages = await asyncio.gather(*(scrape() for _ in range(20)))
    assert len(set(pages)) == 1


async def test_workers_share_the_port(view: FleetView) -> None:
    first, second = FakeGateway(), FakeGateway()
    first.seen = second.seen = view
    servers = []
    for gateway in (first, second):
        registry = CollectorRegistry()
        servers.append(AdminServer(gateway, Metrics(registry), registry))
    port = await servers[0].start("127.0.0.1", 0, reuse_port=True)
    try:
        assert await servers[1].start("127.0.0.1", port, reuse_port=True) == port
        await servers[0].stop()
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/healthz") as reply,
        ):
            assert reply.status == 200
    finally:
        for server in servers:
            await server.stop()
            await server.stop()


async def test_a_taken_port_is_an_error_and_leaves_nothing_open(server: AdminServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="address already in use"):
            await server.start("127.0.0.1", taken.getsockname()[1])
    await server.stop()


names = st.lists(st.sampled_from(["a", "b", "c"]), unique=True)


@given(st.booleans(), st.booleans(), names, names, st.data())
def test_readiness_blocks_only_for_what_stops_all_service(
    draining: bool, has_snapshot: bool, dead: list[str], models: list[str], data: st.DataObject
) -> None:
    without = data.draw(st.lists(st.sampled_from(models), unique=True)) if models else []
    readiness = assess(
        draining=draining, has_snapshot=has_snapshot, dead_tasks=dead, models=models,
        models_without_endpoint=without,
    )  # fmt: skip
    nothing_served = bool(models) and set(models) == set(without)
    assert readiness.ready == (not draining and has_snapshot and not nothing_served)
    clean = readiness.ready and not dead and not without
    expected = "ready" if clean else "degraded" if readiness.ready else "not_ready"
    assert readiness.status == expected


async def test_idle_connections_beyond_a_few_are_closed_the_oldest_first(
    client: aiohttp.ClientSession, server: AdminServer
) -> None:
    url = client._base_url
    assert url is not None
    opened = [
        await asyncio.open_connection("127.0.0.1", url.port) for _ in range(MAX_CONNECTIONS + 5)
    ]
    async with client.get("/healthz") as reply:  # accepted last, so all others are by now
        assert reply.status == 200
    await server.refresh(0.0)
    for reader, _ in opened[:5]:
        assert await reader.read() == b""
    assert not any(reader.at_eof() for reader, _ in opened[6:])
    async with client.get("/healthz") as reply:
        assert reply.status == 200
    for _, writer in opened:
        writer.close()


# Who may ask


def source_of(text: str) -> Source:
    return Source(Secret(text))


@pytest.fixture
async def closed(gateway: FakeGateway) -> AsyncIterator[tuple[aiohttp.ClientSession, Source]]:
    """A client of a port with a token, and the token."""
    registry = CollectorRegistry()
    token = source_of("t0ken-of-the-port")
    server = AdminServer(gateway, Metrics(registry), registry, token=token)
    port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session, token
    await server.stop()


async def status(session: aiohttp.ClientSession, path: str, sent: str | None = None) -> int:
    headers = {} if sent is None else {"Authorization": sent}
    async with session.get(path, headers=headers) as reply:
        return reply.status


WRONG = (None, "", "Bearer", "Bearer t0ken-of-the-por", "Basic t0ken-of-the-port", "Bearer é", "x")


@pytest.mark.parametrize("path", ["/metrics", "/snapshot", "/elsewhere"])
async def test_without_the_token_nothing_is_told(
    closed: tuple[aiohttp.ClientSession, Source], path: str, view: FleetView, gateway: FakeGateway
) -> None:
    session, _ = closed
    gateway.seen = view
    for sent in WRONG:
        async with session.get(path, headers={"Authorization": sent or ""}) as reply:
            assert reply.status == 401
            assert reply.headers["WWW-Authenticate"] == "Bearer"
            assert "west" not in await reply.text()
    found = 404 if path == "/elsewhere" else 200
    assert await status(session, path, "Bearer t0ken-of-the-port") == found
    assert await status(session, path, "bearer  t0ken-of-the-port ") == found


async def test_whether_it_lives_and_is_ready_is_told_to_all_and_why_is_not(
    closed: tuple[aiohttp.ClientSession, Source], gateway: FakeGateway
) -> None:
    session, _ = closed
    gateway.life = Liveness(True, (Reason("worker_down", "worker 1 of 2", False),))
    gateway.state = Readiness((Reason("draining", "shutting down", True),))
    for path, wanted in (("/healthz", 200), ("/readyz", 503)):
        async with session.get(path) as reply:
            assert (reply.status, await reply.text()) == (wanted, "")
        async with session.get(path, headers={"Authorization": "Bearer t0ken-of-the-port"}) as told:
            assert "worker_down" in await told.text() or "draining" in await told.text()
    gateway.life = Liveness(False, ())
    assert await status(session, "/healthz") == 503


async def test_a_new_token_is_in_force_at_once(
    closed: tuple[aiohttp.ClientSession, Source],
) -> None:
    session, token = closed
    token.replace(Secret("another"))
    assert await status(session, "/snapshot", "Bearer t0ken-of-the-port") == 401
    assert await status(session, "/snapshot", "Bearer another") == 503


async def test_over_tls(gateway: FakeGateway) -> None:
    registry = CollectorRegistry()
    tls = server_tls()
    server = AdminServer(gateway, Metrics(registry), registry, tls=tls)
    port = await server.start("127.0.0.1", 0)
    for believes in (authority(), authority("new")):
        connector = aiohttp.TCPConnector(ssl=client_context(believes))
        async with aiohttp.ClientSession(
            f"https://localhost:{port}", connector=connector
        ) as session:
            assert await status(session, "/healthz") == 200
            tls.source.replace(material(server_certificate("new")))
            assert await status(session, "/healthz") == 200
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://127.0.0.1:{port}/healthz")
    await server.stop()
    await server.stop()
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.1", port)) != 0


async def test_a_name_that_may_be_a_strangers_is_shown_nothing(
    client: aiohttp.ClientSession, gateway: FakeGateway
) -> None:
    gateway.state = Readiness((Reason("a", "b", True),))
    for path in ("/metrics", "/snapshot", "/", "/nothing"):
        async with client.get(path, headers={"Host": "evil.example:9500"}) as reply:
            assert reply.status == 421
            assert "server.admin_hosts" in await reply.text()
    for path, status in (("/healthz", 200), ("/readyz", 503)):
        async with client.get(path, headers={"Host": "balancer.example"}) as reply:
            assert (reply.status, await reply.text()) == (status, "")


async def test_a_name_that_is_listed_is_answered_and_with_a_token_any(
    gateway: FakeGateway,
) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    listed = AdminServer(gateway, metrics, registry, names=["Carbon.Example.org"])
    guarded = AdminServer(gateway, metrics, registry, token=source_of("tok"))
    for server, name in ((listed, "carbon.example.org"), (guarded, "any.example")):
        port = await server.start("127.0.0.1", 0)
        headers = {"Host": f"{name}:{port}", "Authorization": "Bearer tok"}
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.get(f"http://127.0.0.1:{port}/metrics") as reply,
            ):
                assert reply.status == 200
        finally:
            await server.stop()

"""The console in a browser: what it says is what metrics and receipts say, and no name runs."""

import asyncio
import json

import pytest
from prometheus_client import CollectorRegistry

from router.console.feed import Event
from router.console.page import page
from router.console.pages import ConsolePages
from router.identity.access import open_access
from router.telemetry.admin import AdminServer
from router.telemetry.metrics import Metrics
from router.trust.secrets import Secret
from tests.e2e.chromium import chromium, open_tab
from tests.e2e.console_scene import HOSTILE, NOW, HostileScene
from tests.e2e.harness import ask, until
from tests.fakes.secure import Source
from tests.identity.support import WallHands
from tests.long import LONG
from tests.telemetry.test_admin import FakeGateway

FIGURES = """Object.fromEntries([...document.querySelectorAll("[data-figure]")].map(
    (node) => [node.dataset.figure, Number(node.dataset.value)]))"""
ANSWERED = "Number(document.querySelector('[data-figure=\"totals.answered\"]')?.dataset.value)"
# What the page is shipped with, and anything that a name could have become.
STRANGERS = """[document.querySelectorAll("script").length, globalThis.hit ?? null,
    document.querySelectorAll("img, iframe, object, embed, video, audio, base").length,
    [...document.querySelectorAll("*")].some((node) => [...node.attributes].some((one) =>
        one.name.startsWith("on") || ["src", "srcdoc", "action", "formaction"].includes(one.name)
        || (one.name.endsWith("href") && !/^(#|data:image|blob:)/.test(one.value))))]"""
CLEAN = [1, None, 0, False]
UNSAID = "document.body.innerText.includes('⟦')"


@pytest.fixture
def browser():
    """Skips where there is none, before anything is started for it."""
    return chromium()


async def test_every_number_is_that_of_metrics_and_receipts(browser, gateway, client):
    async with open_tab(f"http://{gateway.admin}/") as tab:
        await tab.until("document.getElementById('link')?.dataset.state === 'live'")
        # Few requests: from here on each decision is shown.
        await tab.until("document.getElementById('decisions-note')?.innerText.includes('100')")
        receipts = {}
        for number in range(6):
            told = await client.receipt(
                ask(request_id=f"<img src=x onerror=globalThis.hit=1>{number}"),
                x_ttft_budget_ms=8000, x_latency_budget_ms=9000,
            )  # fmt: skip
            receipts[told["decision-id"]] = float(told["gco2e"])

        async def shown():
            found = await tab.ask(FIGURES)
            there = all(f"receipt.{one}" in found for one in receipts)
            answered = await gateway.total("requests_total", code="OK")
            return found if there and found["totals.answered"] == answered else None

        found = await until(shown, "all answers being shown")
        for name, metric in (
            ("totals.gco2e_g", "gco2e_grams_total"),
            ("totals.energy_j", "energy_joules_total"),
        ):
            assert found[name] == pytest.approx(await gateway.total(metric), rel=1e-9)
        saved = await gateway.total("saved_gco2e_grams_total")
        excess = await gateway.total("excess_gco2e_grams_total")
        assert found["totals.net_saved_g"] == pytest.approx(saved - excess, rel=1e-9)
        for decision_id, emitted in receipts.items():
            assert found[f"receipt.{decision_id}"] == pytest.approx(emitted, rel=1e-3)
        known = (await gateway.metrics())["carbon_router_grid_intensity_g_per_kwh"]
        for labels, value in known:
            assert found[f"intensity.{labels['grid_zone']}"] == value
        met = await tab.ask("document.getElementById('met').innerText")
        assert met.endswith("%")

        await tab.ask("document.querySelector('#decision-rows button').click()")
        await tab.until("document.querySelectorAll('#drawer-body tbody tr').length > 1")
        assert (await tab.ask("location.hash")).startswith("#decision=")
        assert await tab.ask(STRANGERS) == CLEAN
        assert not await tab.ask(UNSAID)
        assert tab.problems == []


async def serving(scene, token=None, port=0):
    registry = CollectorRegistry()
    watched = Source(Secret(token)) if token else None
    shown = ConsolePages(scene, scene, open_access(WallHands()), watched, page())
    server = AdminServer(FakeGateway(), Metrics(registry), registry, token=watched, pages=shown)
    return server, await server.start("127.0.0.1", port)


async def test_no_name_is_more_than_text(browser):
    scene = HostileScene()
    scene.publish(first=True)
    server, port = await serving(scene)
    try:
        async with open_tab(f"http://127.0.0.1:{port}/") as tab:
            await tab.until("document.querySelectorAll('#decision-rows button').length > 5")
            for _ in range(3):
                scene.publish()
            await tab.until(f"{ANSWERED} === 120")
            assert await tab.ask(STRANGERS) == CLEAN
            text = await tab.ask("document.body.innerText")
            assert "<img src=x onerror=globalThis.hit=1>" in text
            assert not any(one in text for one in "\u202e\u2066\u0000\u001b")
            assert not await tab.ask("document.body.innerText.includes('a'.repeat(500))")
            # Every decision opens, by its key or by a name that is hostile itself.
            for key in ("d1", "d5", HOSTILE[1] + "1", HOSTILE[4] + "4"):
                await tab.ask(
                    f"location.hash = 'decision=' + encodeURIComponent({json.dumps(key)})"
                )
                await tab.until("document.querySelectorAll('#drawer-body tbody tr').length > 5")
                assert await tab.ask(STRANGERS) == CLEAN
                await tab.ask("document.getElementById('drawer-close').click()")
            await tab.ask("document.querySelector('#lane-rows button').click()")
            await tab.until("document.querySelectorAll('#drawer-body tbody tr').length > 0")
            await tab.ask("document.getElementById('drawer-close').click()")
            await tab.ask("document.querySelector('#if-form button').click()")
            await tab.until("!!document.querySelector('#if-told .effect')")
            await tab.ask(f"location.hash = 'at={int(NOW - 600)}'")
            await tab.until("document.documentElement.dataset.past === 'ledger'")
            await tab.until("!!document.querySelector('[data-figure=\"sums.failed\"]')")
            assert await tab.ask(STRANGERS) == CLEAN
            await tab.ask("document.getElementById('bar-live').click()")
            await tab.until("document.documentElement.dataset.past === ''")
            for no_time in ("99999999999999", "8640000000001", "%2B275760-09-13T00:00:00Z", "-5"):
                await tab.ask(f"location.hash = 'at={no_time}'")
                assert await tab.ask("document.documentElement.dataset.past") == ""
            await tab.ask("document.getElementById('lang').click()")
            await tab.until("document.documentElement.lang === 'ko'")
            assert await tab.ask(STRANGERS) == CLEAN
            assert not await tab.ask(UNSAID)
            await _sheets_are_text(tab)
            assert tab.problems == []
    finally:
        await server.stop()


async def _sheets_are_text(tab):
    """No cell of a downloaded sheet begins as a formula does."""
    await tab.ask("""globalThis.sheets = [];
        URL.createObjectURL = (blob) => { sheets.push(blob); return "blob:none"; };
        HTMLAnchorElement.prototype.click = () => {};
        document.querySelectorAll(".card .csv").forEach((button) => button.click())""")
    sheets = await tab.ask("Promise.all(sheets.map((blob) => blob.text()))")
    assert len(sheets) == 6
    for sheet in sheets:
        rows = sheet.removeprefix("\ufeff").split("\r\n")
        assert len(rows) > 2
        for row in rows:
            first = row.replace('""', "").strip('"')
            assert not first.startswith(("=", "+", "@")), row


async def test_a_lost_connection_is_told_and_goes_on(browser):
    scene = HostileScene()
    scene.publish(first=True)
    server, port = await serving(scene)
    async with open_tab(f"http://127.0.0.1:{port}/") as tab:
        await tab.until("document.getElementById('link')?.dataset.state === 'live'")
        before = scene.feed.seq
        await server.stop()
        await tab.until("document.getElementById('link')?.dataset.state === 'lost'")
        scene.publish()
        again, _ = await serving(scene, port=port)
        try:
            await tab.until("document.getElementById('link')?.dataset.state === 'live'")
            # It goes on where it was: what came meanwhile is there.
            await tab.until(f"{ANSWERED} === 60")
            assert scene.feed.seq > before
        finally:
            await again.stop()


async def test_a_door_opens_to_its_token(browser):
    scene = HostileScene()
    scene.publish(first=True)
    server, port = await serving(scene, token="tok-7f3e")
    try:
        async with open_tab(f"http://127.0.0.1:{port}/") as tab:
            await tab.until("document.getElementById('door')?.open")
            assert not await tab.ask("!!document.querySelector('#decision-rows button')")
            for said, state in (("another", "refused"), ("tok-7f3e", "live")):
                await tab.ask(f"document.getElementById('door-token').value = {json.dumps(said)}")
                await tab.ask("document.querySelector('#door button').click()")
                await tab.until(
                    f"document.getElementById('link').dataset.state === '{state}'"
                    f" && document.getElementById('door').open === {json.dumps(state != 'live')}"
                )
            await tab.until("document.querySelectorAll('#decision-rows button').length > 5")
            assert not await tab.ask("document.body.innerHTML.includes('tok-7f3e')")
    finally:
        await server.stop()


async def test_a_thousand_endpoints_and_two_hundred_zones_are_drawn(browser):
    scene = HostileScene(200, 1000)
    scene.publish(first=True)
    server, port = await serving(scene)
    try:
        async with open_tab(f"http://127.0.0.1:{port}/") as tab:
            await tab.until("document.querySelectorAll('#lane-rows tr').length >= 16")
            await tab.ask("document.getElementById('lanes-all').click()")
            await tab.until("document.querySelectorAll('#lane-rows tr').length === 200")
            for _ in range(3):
                scene.publish()
                await asyncio.sleep(0)
            await tab.until(f"{ANSWERED} === {30 * scene.ticks}")
            assert tab.problems == []
    finally:
        await server.stop()


async def heap_mib(tab):
    """What the page's scripts hold, once all that can go has gone."""
    await tab.send("HeapProfiler.collectGarbage")
    return (await tab.send("Runtime.getHeapUsage"))["usedSize"] / 2**20


@LONG
@pytest.mark.timeout(1800)
async def test_a_day_that_is_left_open_grows_by_nothing(browser):
    """As many ticks as a day has, each with decisions of its own; one of a minute's is drawn."""
    scene = HostileScene(12, 60)
    # The longest names over and over would be of the wire, and nothing else.
    rows = [one for one in scene.decisions() if len(one["id"]) < 1000][:4]
    scene.publish(first=True)
    server, port = await serving(scene)
    try:
        async with open_tab(f"http://127.0.0.1:{port}/") as tab:
            await tab.until(f"{ANSWERED} === {30 * scene.ticks}")
            held = []
            for minute in range(24 * 60):
                events = []
                for second in range(60):
                    named = f"t{minute}-{second}-"
                    shown = [{**one, "key": f"{named}{place}"} for place, one in enumerate(rows)]
                    events += [Event("decisions", shown), Event("tick", scene.tick())]
                scene.feed.publish(events)
                await tab.until(f"{ANSWERED} === {30 * scene.ticks}")
                if minute % 120 == 119:
                    held.append(await heap_mib(tab))
            # The first hours fill what is kept.
            assert max(held[-3:]) < 1.1 * held[1] + 0.5, held
            assert await tab.ask("document.querySelectorAll('*').length") < 5000
            assert tab.problems == []
    finally:
        await server.stop()

"""Another time than now, in a browser: the ledger's hours, the last minutes, and a recording."""

import asyncio
import random
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from router.app.console.answers import ProcessAnswers
from router.app.console.audiences import Audiences
from router.app.console.past import PastScenes
from router.app.console.rounds import ConsoleRounds
from router.app.console.sampling import Sampling
from router.app.observers import LoggedRequests
from router.console.page import page, recorded_page
from router.console.pages import ConsolePages
from router.identity.access import open_access
from router.telemetry.admin import AdminServer
from router.telemetry.metrics import Metrics
from router.telemetry.request_file import RequestFile
from router.telemetry.security import SecurityLog
from tests.app.console.test_past import Kept
from tests.e2e.chromium import chromium, open_tab
from tests.e2e.console_scene import HostileScene
from tests.identity.support import WallHands
from tests.telemetry.test_admin import FakeGateway

SAID = "document.getElementById('bar-said').innerText"
OPENED = "document.getElementById('drawer-body').innerText"
FIGURE = "Number(document.querySelector('[data-figure=\"{}\"]')?.dataset.value)"
PRESS = """document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", {{key: {!r}, bubbles: true, cancelable: true}}))"""
VISIBLE = "getComputedStyle(document.getElementById('answer')).visibility"
PAST = "document.documentElement?.dataset.past"


@pytest.fixture
def browser():
    return chromium()


class Looked:
    """`Kept` with a console on a port."""

    async def open(self, folder):
        self.kept = kept = await Kept(folder).fill()
        place, registry = kept.place, CollectorRegistry()
        # What is shown from here on is of another moment than what is in the ledger.
        place.clock.advance(100.0)
        metrics = Metrics(registry)
        observer = LoggedRequests(
            metrics,
            RequestFile(None, random.Random(1), lambda *_: None),
            SecurityLog(CollectorRegistry(), lambda: 0.0),
        )
        audiences = Audiences()
        sampling = Sampling(observer, random.Random(1), "d")
        self.rounds = ConsoleRounds(
            place.runtime, registry, audiences, sampling, lambda: [], place.clock
        )
        self.rounds.attach(place.dispatcher)
        past = PastScenes(place.runtime, audiences, kept.ledger.moments(), 1)
        answers = ProcessAnswers(place.runtime, sampling, past)
        shown = ConsolePages(self.rounds, answers, open_access(WallHands()), None, page())
        self.server = AdminServer(FakeGateway(), metrics, registry, pages=shown)
        self.port = await self.server.start("127.0.0.1", 0)
        return self

    async def ticks(self):
        while True:
            await self.rounds.tick()
            await asyncio.sleep(0.2)


@pytest.fixture
async def looked(tmp_path, browser):
    found = await Looked().open(tmp_path)
    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(found.ticks())
        yield found
        ticking.cancel()
    await found.server.stop()


async def test_by_the_keyboard_alone_to_the_past_and_back(looked):
    kept = looked.kept
    when = datetime.fromtimestamp(kept.at // 1 + 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # A moment has an address.
    async with open_tab(f"http://127.0.0.1:{looked.port}/#at={when}") as tab:
        await tab.until(f"{PAST} === 'ledger'")
        assert "ledger" in await tab.ask("document.getElementById('bar-said').innerText")
        emitted = sum(one.gco2e for one in kept.answers)
        assert await tab.ask(FIGURE.format("sums.gco2e_g")) == pytest.approx(emitted, rel=1e-4)
        assert await tab.ask(FIGURE.format("sums.answered")) == 6
        for receipt in kept.answers:
            found = await tab.ask(FIGURE.format(f"receipt.{receipt.decision_id}"))
            assert found == pytest.approx(receipt.gco2e, rel=1e-4)
        # A decision opens with its terms, and the moment stays.
        await tab.ask("document.querySelector('#decision-rows button').click()")
        await tab.until("document.querySelectorAll('#drawer-body tbody tr').length > 1")
        assert (await tab.ask("location.hash")).startswith("#at=")
        assert "decision=" in await tab.ask("location.hash")
        await tab.ask(PRESS.format("Escape"))
        await tab.until("document.getElementById('drawer').hidden")
        assert await tab.ask(PAST) == "ledger"
        # An hour earlier there was nothing, and it says so; one key leads back.
        await tab.ask(PRESS.format("{"))
        await tab.until(f"{SAID}.includes('Nothing is known')")
        # What was shown before does not stand there as if it were of then.
        assert await tab.ask(VISIBLE) == "hidden"
        await tab.ask(PRESS.format("l"))
        await tab.until(f"{PAST} === ''")
        assert await tab.ask(VISIBLE) == "visible"
        assert await tab.ask("location.hash") == ""
        assert await tab.ask("document.getElementById('link').innerText") == "live"
        await tab.ask(PRESS.format("t"))
        await tab.until("document.getElementById('bar').hidden")
        assert await tab.ask("document.activeElement.id") == "back"
        await tab.ask(PRESS.format("t"))
        await tab.until("document.activeElement.id === 'bar-slide'")
        assert not await tab.ask("document.body.innerText.includes('⟦')")
        assert tab.problems == []


async def test_a_recording_plays_by_itself_and_no_name_in_it_runs(tmp_path, browser):
    scene = HostileScene()
    events = [(0.0, "fleet", scene.fleet()), (0.0, "grid", scene.grid())]
    for second in range(40):
        events += [(second + 0.5, "decisions", scene.decisions()),
                   (second + 0.5, "tick", scene.tick())]  # fmt: skip
    opened = {one["key"]: await scene.decision(None, one["key"]) for one in scene.decisions()[:3]}
    path = tmp_path / "console.html"
    path.write_bytes(recorded_page({"events": events, "decisions": opened}))
    assert path.stat().st_size < 1_000_000
    answered = FIGURE.format("totals.answered")
    async with open_tab(path.as_uri()) as tab:
        await tab.until(f"{answered} >= 30")
        await tab.until(f"{answered} >= 60")
        seek = """(() => {{ const at = document.getElementById('bar-slide'); at.value = {};
            at.dispatchEvent(new Event('input')); }})()"""
        await tab.ask(PRESS.format(" "))
        await tab.until("document.getElementById('bar-play').innerText === 'Play'")
        for second, wanted in ((30, 900), (5, 150), (39.5, 1200)):
            await tab.ask(seek.format(second))
            await tab.until(f"{answered} === {wanted}")
        # It begins where something is to be seen, though a tick of before is still to be drawn.
        await tab.ask(PRESS.format("["))
        await tab.ask(PRESS.format("{"))
        await tab.until(f"{answered} === 30")
        await tab.ask("location.hash = 'decision=d1'")
        await tab.until("document.querySelectorAll('#drawer-body tbody tr').length > 5")
        await tab.ask("location.hash = 'decision=d9'")
        await tab.until(f"{OPENED}.includes('only its line')")
        for button in ("lang", "theme", "zone"):
            await tab.ask(f"document.getElementById('{button}').click()")
        await tab.until("document.documentElement.lang === 'ko'")
        assert await tab.ask("document.querySelectorAll('script').length") == 2
        assert await tab.ask("globalThis.hit ?? null") is None
        assert not await tab.ask("document.body.innerText.includes('⟦')")
        assert tab.problems == []

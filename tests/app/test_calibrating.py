"""Profiles are fitted to meters as they run: adopted, confirmed, refused, kept and followed."""

import asyncio
import logging

import pytest
from prometheus_client import CollectorRegistry

from router.app import calibrating as module
from router.app.calibrating import CalibrationRounds
from router.app.leases import SoleLease
from router.errors import ConfigError, DataError
from router.load.calibration.continuous import fitted
from router.load.energy_meter import MeterReading
from router.model import Provenance
from router.state.calibrated import CalibratedStore
from router.telemetry.calibration import CalibrationMetrics
from tests.app.support import Place, configured
from tests.director.support import ANSWER, Hands
from tests.load.calibration.servers import LAW, Law, readings

METER = {"kind": "dcgm", "url": "http://127.0.0.1:9400/metrics", "calibrate": {}}
PAGE = """vllm:generation_tokens_total {work.answer_tokens!r}
vllm:prompt_tokens_total {work.prompt_tokens!r}
vllm:iteration_tokens_total_count {work.iterations!r}
vllm:num_requests_running {work.running!r}
"""


class Pages:
    """What a server and its meter tell, a reading after the other."""

    def __init__(self, law=LAW):
        self.found = readings(count=300, law=law, step_s=10.0)
        self.at = 0
        self.is_silent = False

    async def meter(self, endpoint):
        return MeterReading() if self.is_silent else self.found[self.at].meter

    async def get(self, endpoint, url, page):
        if self.is_silent:
            raise TimeoutError
        page.take(PAGE.format(work=self.found[self.at].work).encode())


class Scene:
    """One process of a gateway; ``place``: that of another."""

    def __init__(self, folder, leads=True, changes=None):
        path = configured(
            folder,
            {
                "endpoints/0/meter": METER,
                "state": {"file": "learned.json"},
                **(changes or {}),
            },
        )
        self.place, self.wall, self.told = Place(path, {"west-0": ANSWER}), Hands(), 0
        self.registry = CollectorRegistry()
        self.rounds = CalibrationRounds(
            self.place.runtime,
            CalibratedStore(folder / "learned.json", None),
            SoleLease() if leads else None,
            self.wall,
            CalibrationMetrics(self.registry),
            self._adopted,
            self._fit,
        )
        self.error = None

    def _adopted(self):
        self.told += 1

    async def _fit(self, question):
        if self.error is not None:
            raise self.error
        return fitted(question)

    async def see(self, pages):
        """All that ``pages`` have to tell, then a fit."""
        for at in range(len(pages.found)):
            pages.at = at
            await self.rounds.read(pages)
            self.wall.advance(10.0)
        await self.rounds.refit()

    @property
    def endpoint(self):
        return self.place.runtime.config.fleet.endpoints[0]

    @property
    def profile(self):
        return self.endpoint.models[0].profile

    def count(self, outcome):
        labels = {"endpoint": "west-0", "outcome": outcome}
        return self.registry.get_sample_value("carbon_router_calibrations_total", labels)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.0)


async def test_what_is_found_is_in_force_and_outlives_the_process(tmp_path):
    scene = Scene(tmp_path)
    await scene.place.open()
    before = scene.profile
    await scene.see(Pages())
    assert (scene.count("adopted"), scene.told) == (1.0, 1)
    assert scene.profile.idle_w == pytest.approx(LAW.idle_w, rel=0.01)
    assert scene.endpoint.kind_by(scene.profile) is Provenance.CALIBRATED
    assert scene.place.runtime.configured.fleet.endpoints[0].models[0].profile is before
    receipt = (await scene.place.infer()).receipt
    assert receipt.decision.served.profile is scene.profile
    assert receipt.energy_kind is Provenance.CALIBRATED
    # The same again says so, and changes nothing.
    await scene.see(Pages())
    assert (scene.count("adopted"), scene.count("confirmed"), scene.told) == (1.0, 1.0, 1)
    later = Scene(tmp_path)
    await later.rounds.restore()
    assert later.profile == scene.profile
    # Another hardware than the one that it was fitted to: as configured.
    other = Scene(tmp_path, changes={"endpoints/0/models/0/profile": "llama-3.1-70b@4xh100"})
    await other.rounds.restore()
    assert other.profile.provenance is Provenance.MEASURED


async def test_what_cannot_be_changes_nothing_and_the_last_good_one_stays(tmp_path, caplog):
    first = Scene(tmp_path)
    await first.see(Pages())
    good = first.profile
    scene = Scene(tmp_path)
    await scene.rounds.restore()
    slipped = Pages(Law(LAW.idle_w * 40, LAW.base_w * 40, LAW.token_j * 40, LAW.prefill_w * 40))
    with caplog.at_level(logging.WARNING):
        await scene.see(slipped)
        await scene.see(slipped)
    assert (scene.count("refused"), scene.count("adopted")) == (2.0, 0.0)
    assert "more than 5 times off" in caplog.text
    pages = Pages()
    pages.is_silent = True
    await scene.see(pages)
    scene.error = DataError("a fit took over 120 s, and was ended")
    await scene.see(Pages())
    assert scene.count("failed") == 1.0
    assert scene.profile == good


async def test_what_cannot_be_put_in_force_is_not_said_to_be(tmp_path, monkeypatch):
    scene, follower = Scene(tmp_path), Scene(tmp_path, leads=False)
    await scene.place.open()
    await follower.place.open()
    before = scene.profile

    async def refuse(found):
        raise ConfigError("config.yaml", [("endpoints", "no")])

    with monkeypatch.context() as patched:
        patched.setattr(scene.place.runtime, "adopt_calibrated", refuse)
        await scene.see(Pages())
    assert (scene.count("failed"), scene.count("adopted") or 0.0) == (1.0, 0.0)
    assert scene.profile == before and not (tmp_path / "learned.json.profiles").exists()
    scene.wall.advance(10.0 * 3600.0)
    await scene.rounds.refit()
    assert scene.count("adopted") == 1.0
    # Whoever follows tries again, too.
    with monkeypatch.context() as patched:
        patched.setattr(follower.place.runtime, "adopt_calibrated", refuse)
        await follower.rounds.read(Pages())
    assert follower.profile == before
    follower.wall.advance(100.0)
    await follower.rounds.read(Pages())
    assert follower.profile == scene.profile


async def test_other_workers_follow_what_one_adopts(tmp_path):
    first, second = Scene(tmp_path), Scene(tmp_path, leads=False)
    await second.rounds.restore()
    pages = Pages()
    await second.rounds.read(pages)
    assert second.profile.provenance is Provenance.MEASURED
    await first.see(pages)
    second.wall.advance(module._FOLLOW_S)
    await second.rounds.read(pages)
    assert second.profile == first.profile
    await second.rounds.refit()
    assert second.count("adopted") is None
    # A file that somebody broke takes nothing away.
    (tmp_path / "learned.json.profiles").write_bytes(b"{")
    second.wall.advance(module._FOLLOW_S)
    await second.rounds.read(pages)
    assert second.profile == first.profile


async def test_a_reload_keeps_it_where_it_still_holds(tmp_path):
    scene = Scene(tmp_path)
    await scene.place.open()
    await scene.see(Pages())
    runtime = scene.place.runtime
    await runtime.reload(scene.place.path)
    assert scene.profile.provenance is Provenance.CALIBRATED
    path = configured(tmp_path, {"endpoints/0/meter": {**METER, "calibrate": None}})
    await runtime.reload(path)
    assert scene.profile.provenance is Provenance.MEASURED
    await scene.rounds.read(Pages())
    await asyncio.sleep(0)
    assert not scene.rounds._readings

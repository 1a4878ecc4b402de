"""What was learned, from one process to the next."""

import asyncio
import logging
import math
import stat

import pytest

from router.app.keeping import Keeper
from router.app.loading import load
from router.carbon.chain.combine import Combiner
from router.clock import WallClock
from router.config.settings import StateSettings
from router.core.learned import Learned, SkillLearned
from router.director.learned import learned_by
from router.errors import StateStoreError
from router.peers.rows import PARENT
from router.state.learned_store import LearnedStore
from router.state.memory import MemoryStore
from tests.app.support import Place, configured
from tests.director import virtual_time


async def place(folder, learn=True):
    opened = await Place(configured(folder, {"state": {"file": "learned.json"}})).open()
    if learn:
        for _ in range(40):
            opened.dispatcher.parts.lengths.observe("llama-3.1-8b", "acme", 100.0, 20.0)
    return opened


def keeper(opened, row=PARENT, workers=1, store=None, identity=""):
    settings = opened.runtime.config.settings.state
    return Keeper(settings, opened.runtime, row, workers, store, identity)


def unkept(folder):
    """A gateway without a file."""
    return Place(configured(folder)).open()


def teach(opened, tenant="acme", tokens=20.0):
    for _ in range(40):
        opened.dispatcher.parts.lengths.observe("llama-3.1-8b", tenant, 100.0, tokens)


def usual(opened, tenant="acme"):
    lengths = opened.dispatcher.parts.lengths
    return lengths.expect("llama-3.1-8b", tenant, math.nan, math.inf).output_tokens


async def test_the_next_process_goes_on_where_the_last_one_ended(tmp_path):
    before = await place(tmp_path)
    await keeper(before).close()
    after = await place(tmp_path, learn=False)
    await keeper(after).restore()
    assert learned_by(after.dispatcher) == learned_by(before.dispatcher)


def test_it_is_written_every_minute(tmp_path):
    async def rounds():
        opened = await place(tmp_path)
        one = keeper(opened)
        await one.run()
        first = (tmp_path / "learned.json").read_bytes()
        opened.dispatcher.parts.lengths.observe("llama-3.1-8b", "bmce", 100.0, 20.0)
        await one.run()
        assert (tmp_path / "learned.json").read_bytes() != first

    virtual_time.run(rounds())


async def workers_of(folder, count):
    """Each with its own process' keeper, which has read what there is."""
    made = []
    for row in range(1, count + 1):
        opened = await place(folder, learn=False)
        one = keeper(opened, row, count)
        await one.restore()
        made.append((opened, one))
    return made


async def ended(*workers):
    for _, one in workers:
        await one.close()


def lessons(opened, tenant="acme"):
    told = {one.tenant: one.lessons for one in learned_by(opened.dispatcher).lengths}
    return told.get(tenant, 0)


@pytest.mark.parametrize("who", [0, 1])
async def test_what_any_worker_learned_all_go_on_from(tmp_path, who):
    workers = await workers_of(tmp_path, 2)
    teach(workers[who][0])
    # Whoever ends first.
    await ended(*reversed(workers))
    again = await workers_of(tmp_path, 2)
    assert [lessons(opened) for opened, _ in again] == [40, 40]
    assert usual(again[1 - who][0]) == usual(workers[who][0])


async def test_what_one_worker_saw_outweighs_what_the_others_took_up(tmp_path):
    """However often it was written since, and by how many."""
    first = await workers_of(tmp_path, 3)
    teach(first[0][0], tokens=20.0)
    await ended(*first)
    second = await workers_of(tmp_path, 3)
    for _ in range(5):
        teach(second[2][0], tokens=90.0)
    await ended(*second)
    third = await workers_of(tmp_path, 3)
    assert {usual(opened) for opened, _ in third} == {usual(second[2][0])}


async def test_files_of_workers_that_are_no_more_are_taken_over(tmp_path):
    workers = await workers_of(tmp_path, 3)
    for number, (opened, _) in enumerate(workers):
        teach(opened, f"t{number}")
    await ended(*workers)
    names = {"learned.json", "learned.json.2", "learned.json.3"}
    assert {path.name for path in tmp_path.glob("learned.json*")} == names
    alone = await place(tmp_path, learn=False)
    one = keeper(alone)
    await one.restore()
    assert {path.name for path in tmp_path.glob("learned.json*")} == names
    await one.close()
    assert [path.name for path in tmp_path.glob("learned.json*")] == ["learned.json"]
    again = await place(tmp_path, learn=False)
    await keeper(again).restore()
    assert [lessons(again, f"t{number}") for number in range(3)] == 3 * [40]


async def test_without_a_file_nothing_is_kept(tmp_path):
    opened = await Place(configured(tmp_path)).open()
    assert opened.runtime.config.settings.state == StateSettings(None)
    files = sorted(tmp_path.iterdir())
    await keeper(opened).restore()
    await keeper(opened).close()
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize("body", [b"", b"{", b'{"format":9,"learned":{}}', b"\x00" * 100])
async def test_a_file_that_is_none_is_a_warning_and_a_fresh_start(tmp_path, body, caplog):
    (tmp_path / "learned.json").write_bytes(body)
    opened = await place(tmp_path, learn=False)
    fresh = learned_by(opened.dispatcher)
    with caplog.at_level(logging.WARNING):
        await keeper(opened).restore()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "learned.json" in record.getMessage()
    assert learned_by(opened.dispatcher) == fresh
    await keeper(opened).close()
    again = await place(tmp_path, learn=False)
    caplog.clear()
    await keeper(again).restore()
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_first_start_is_no_warning(tmp_path, caplog):
    await keeper(await place(tmp_path)).restore()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_where_it_cannot_be_written_that_is_said_once(tmp_path, caplog):
    opened = await place(tmp_path)
    one = Keeper(StateSettings(tmp_path / "gone" / "learned.json"), opened.runtime)
    await one.restore()
    await one.close()
    await one.close()
    assert len([r for r in caplog.records if "not written" in r.getMessage()]) == 1
    (tmp_path / "gone").mkdir()
    await one.close()
    assert stat.S_ISREG((tmp_path / "gone" / "learned.json").stat().st_mode)


def test_the_file_lies_beside_the_configuration(tmp_path):
    path = configured(tmp_path, {"state": {"file": "kept/learned.json"}})
    assert load(path).settings.state.file == tmp_path / "kept" / "learned.json"


async def test_what_all_gateways_learned_is_taken_up_from_the_store(tmp_path):
    store = MemoryStore()
    fleet = [await unkept(tmp_path) for _ in range(3)]
    teach(fleet[0], "acme")
    teach(fleet[1], "bmce", 40.0)
    for number, one in enumerate(fleet):
        # All of them end, one after the other.
        await keeper(one, store=store, identity=f"p{number}").close()
    again = await unkept(tmp_path)
    await keeper(again, store=store, identity="p4").restore()
    assert usual(again) == usual(fleet[0])
    assert usual(again, "bmce") == usual(fleet[1], "bmce")
    fresh = await unkept(tmp_path)
    assert usual(again) < 0.9 * usual(fresh)


async def test_the_file_is_one_voice_among_those_of_the_store(tmp_path):
    store = MemoryStore()
    other = await unkept(tmp_path)
    teach(other, "bmce")
    await keeper(other, store=store, identity="p1").close()
    own = await place(tmp_path)
    await keeper(own).close()
    again = await place(tmp_path, learn=False)
    await keeper(again, store=store, identity="p2").restore()
    assert usual(again) == usual(own)
    assert usual(again, "bmce") == usual(other, "bmce")


async def test_what_is_forecast_how_well_outlives_the_process_as_well(tmp_path):
    zone = "US-CAL-CISO"
    skill = SkillLearned("average/lifecycle", zone, 7 * ((30, 5.0, 2.0, 1.5),))
    broken = SkillLearned("average/lifecycle", zone, 7 * ((30, math.inf, 2.0, 1.5),))
    foreign = SkillLearned("average/lifecycle", "ATLANTIS", skill.errors)
    store = MemoryStore()
    wrote = LearnedStore(store, "p1", "", WallClock())
    await wrote.write(Learned(skills=(broken, foreign, skill)))
    opened = await unkept(tmp_path)
    opened.clock.wall = WallClock().now()
    chain = opened.runtime.carbon.chain
    chain._combiner = Combiner()
    await keeper(opened, store=store, identity="p2").restore()
    assert chain.learned() == (skill,)
    await keeper(opened, store=store, identity="p2").close()
    kept = [one.own.skills for one in await LearnedStore(store, "p3", "", WallClock()).read()]
    assert (skill,) in kept


async def test_it_is_shared_every_round(tmp_path, monkeypatch):
    store = MemoryStore()
    opened = await unkept(tmp_path)
    one = keeper(opened, store=store, identity="p1")
    # A minute of real time, in which threads encode.
    sleep = asyncio.sleep
    monkeypatch.setattr("router.app.keeping.asyncio.sleep", lambda seconds: sleep(0.0))
    await one.run()
    teach(opened)
    await one.run()
    (kept,) = await LearnedStore(store, "p2", "", opened.runtime.clock).read()
    assert {length.tenant for length in kept.own.lengths} == {None, "acme"}


class Lost(MemoryStore):
    """Cannot be had: says so, or says nothing."""

    def __init__(self, hangs):
        super().__init__()
        self.hangs = hangs

    async def exchange(self, *call):
        if self.hangs:
            await asyncio.Event().wait()
        raise StateStoreError("state store: refused")

    put = exchange


@pytest.mark.parametrize("hangs", [False, True])
def test_a_store_that_is_lost_delays_no_start_and_no_end(tmp_path, hangs, caplog):
    async def rounds():
        opened = await unkept(tmp_path)
        fresh = learned_by(opened.dispatcher)
        one = keeper(opened, store=Lost(hangs), identity="p1")
        began = asyncio.get_running_loop().time()
        await one.restore()
        assert learned_by(opened.dispatcher) == fresh
        await one.close()
        assert asyncio.get_running_loop().time() - began <= 8.0
        await one.run()

    virtual_time.run(rounds())
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len([text for text in said if "is not known" in text]) == 1
    assert len([text for text in said if "is not shared" in text]) == 1

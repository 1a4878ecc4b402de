"""One process of all has a lease, and no longer than it lives."""

import shutil
import subprocess
import sys

import pytest

from router.app.leases import FolderLease, SoleLease, StoreLease
from router.errors import StateStoreError
from router.state.memory import MemoryStore
from tests.director.support import Hands

HOLDS = """
import asyncio, sys, time
from pathlib import Path
from router.app.leases import FolderLease
lease = FolderLease(Path(sys.argv[1]))
assert asyncio.run(lease.renew())
print("held", flush=True)
time.sleep(600)
"""


class Silent(MemoryStore):
    async def acquire(self, *_):
        raise StateStoreError("no answer")


async def test_in_a_store_one_holds_it_until_it_gives_it_up():
    store, clock = MemoryStore(), Hands()
    one, two = (StoreLease(store, "work", name, clock) for name in ("one", "two"))
    assert (await one.renew(), await two.renew()) == (True, False)
    assert (one.is_held, two.is_held) == (True, False)
    await one.release()
    clock.advance(5.0)
    assert await two.renew() and two.is_held and not one.is_held
    assert two.token > one.token > 0


async def test_in_a_store_who_stands_still_holds_it_no_more():
    store, clock = MemoryStore(), Hands()
    one = StoreLease(store, "work", "one", clock)
    await one.renew()
    clock.advance(16.0)
    assert not one.is_held
    two = StoreLease(store, "work", "two", clock)
    assert await two.renew() and two.is_held
    assert not await one.renew()


async def test_a_store_that_fails_gives_it_to_nobody():
    clock = Hands()
    lease = StoreLease(Silent(), "work", "one", clock)
    assert await lease.renew()
    assert not lease.is_held
    await lease.release()


async def test_on_a_folder_one_holds_it_and_who_is_killed_no_more(tmp_path):
    path = tmp_path / "prices" / ".lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        lease = FolderLease(path)
        assert not await lease.renew()
        assert not lease.is_held
        other.kill()
        other.wait()
    assert await lease.renew() and lease.is_held
    await lease.release()
    assert not lease.is_held


async def test_a_lock_whose_folder_is_gone_is_sought_anew(tmp_path):
    path = tmp_path / "prices" / ".lock"
    one, two = FolderLease(path), FolderLease(path)
    assert await one.renew()
    shutil.rmtree(path.parent)
    assert await two.renew()
    assert not await one.renew() and not one.is_held
    await two.release()


async def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "prices").write_text("a file")
    with pytest.raises(OSError, match="prices"):
        await FolderLease(tmp_path / "prices" / ".lock").renew()


async def test_who_shares_nothing_has_it():
    lease = SoleLease()
    assert await lease.renew() and lease.is_held
    await lease.release()

"""A process whose event loop stands still ends itself, whatever it hangs in."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from router.app.watchdog import frozen_after_s

HANGS = """
import asyncio, sys
from router.app.watchdog import beat_for_ever

async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(beat_for_ever(1.0, lambda: print("beat", flush=True)))
        await asyncio.sleep(0)
        {hang}

asyncio.run(main())
"""
# In Python; and in C that lets no other thread of the interpreter run.
LOOP, HELD = "while True: pass", "pow(3, 10**9)"


@pytest.mark.parametrize("hang", [LOOP, HELD], ids=["python", "c"])
def test_a_loop_that_stands_still_ends_its_process_and_says_where(hang):
    code = HANGS.format(hang=hang)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (1, "beat\n")
    assert 'File "<string>", line 9 in main' in done.stderr


def test_a_loop_that_turns_is_left_alone():
    code = HANGS.format(hang="await asyncio.sleep(2.2); raise SystemExit(3)")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 3
    assert done.stdout.count("beat") >= 3


@pytest.mark.parametrize(
    ("set_s", "workers", "expected_s"), [(None, 1, 30.0), (None, 2, 5.0), (7.0, 1, 7.0)]
)
def test_who_is_replaced_at_once_is_given_less_time(set_s, workers, expected_s):
    assert frozen_after_s(SimpleNamespace(frozen_after_s=set_s), workers) == expected_s

import asyncio

import pytest

from router.lab.emulator.lag import LoopLag
from router.lab.emulator.machine import Machine
from router.lab.emulator.metrics import render
from router.lab.loopback.watch import lag_counts
from router.lab.replay.replica import Replica
from router.load.work_counters import WorkScan
from tests.factories import token_profile


def test_the_exposition_tells_the_counts():
    lag = LoopLag()
    for lag_ms in (0.5, 8.0, 8.0, 900.0):
        lag.observe(lag_ms)
    text = render({}, lag)
    assert 'emulated:loop_lag_seconds_bucket{le="0.01"} 3' in text
    assert 'emulated:loop_lag_seconds_bucket{le="+Inf"} 4' in text
    assert lag_counts(text) == lag.counts
    assert lag_counts("") == []


def test_work_is_counted_as_a_server_counts_it():
    """Iterations take the time of the profile's law, and tokens are those of requests."""
    profile = token_profile(prefill_base_ms=0.0)
    replica = Replica(profile, 0.0)
    for key in range(3):
        replica.admit(0.0, key, 100, 20)
    replica.advance(60.0)
    assert (replica.tokens, replica.read_tokens) == pytest.approx((60.0, 300.0))
    # The first one's prompt has an iteration for itself, the others' the next.
    assert replica.iterations == pytest.approx(21.0)
    told_ms = replica.iterations * profile.tpot_base_ms + 57.0 * profile.tpot_ms_per_sequence
    assert replica.busy_s * 1e3 == pytest.approx(told_ms + 300.0 * profile.prefill_ms_per_token)


async def test_the_exposition_tells_the_work():
    machine = Machine(token_profile(prefill_base_ms=0.0), asyncio.get_running_loop())
    machine.submit(100, 1)
    await asyncio.sleep(0.05)
    page = WorkScan("vllm")
    page.take(render({"m": machine}, LoopLag()).encode())
    machine.stop()
    assert page.counters()[:3] == pytest.approx((1.0, 100.0, 1.0))

import asyncio
import math

import pytest

from router.lab.emulator.lag import EDGES_MS, LoopLag, quantile_ms


def test_samples_are_counted_by_upper_edge():
    lag = LoopLag()
    for lag_ms in (0.0, 1.0, 1.5, 4.0, 1e4):
        lag.observe(lag_ms)
    assert lag.counts[:4] == [2, 1, 0, 1] and lag.counts[-1] == 1 and sum(lag.counts) == 5
    assert lag.total_s == pytest.approx(10.0065)


def test_quantiles_are_upper_edges():
    counts = [50, 45, 0, 4, *[0] * (len(EDGES_MS) - 4), 1]
    assert quantile_ms(counts, 0.5) == 1.0
    assert quantile_ms(counts, 0.95) == 2.0
    assert quantile_ms(counts, 0.99) == 5.0
    assert quantile_ms(counts, 1.0) == math.inf
    assert math.isnan(quantile_ms([0] * len(counts), 0.5))


async def test_a_blocked_loop_shows():
    loop = asyncio.get_running_loop()
    lag = LoopLag()
    async with asyncio.TaskGroup() as tasks:
        sampling = tasks.create_task(lag.run())
        await asyncio.sleep(0)
        blocked_until = loop.time() + 0.1
        while loop.time() < blocked_until:
            pass
        async with asyncio.timeout(30.0):
            while not sum(lag.counts):
                await asyncio.sleep(0)
        sampling.cancel()
    assert quantile_ms(lag.counts, 1.0) >= 50.0

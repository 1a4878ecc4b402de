"""What it takes of a request to keep its receipt where other workers and gateways find it.

    python -m benchmarks.receipt_keeping [--redis unix:///path/of/socket]

CPU of this process, best of several rounds. On the request's way: kept here; for other workers (a
row in shared memory); for other gateways (a row in line). In the background: sending a row off.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path

from router.clock import WallClock
from router.config.redis import RedisSchema, redis_settings
from router.contract import StateStore
from router.core.decision_ids import decision_id
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.shared_receipts import MOST_WAITING, SharedReceipts
from router.model import (
    UNBURDENED,
    Basis,
    Decision,
    Endpoint,
    Factors,
    Intensity,
    Kind,
    Predicted,
    Provenance,
    Receipt,
    Request,
    ServedModel,
    Signal,
    TokenProfile,
)
from router.peers.memory import SharedMemory
from router.peers.rows import PARENT
from router.state.memory import MemoryStore
from router.state.redis.clients import Passwords
from router.state.redis.store import RedisStore

ROUNDS = 9
_PROFILE = TokenProfile(
    "llama-3.1-8b@1xh100", 90.0, 477.0, 0.024, 6.0, 0.1, 10.0, 0.05, 665.0, 256, 64, 0.3,
    Provenance.MEASURED, "benchmark",
)  # fmt: skip


def receipts(count: int) -> list[Receipt]:
    grid = Intensity(
        21.5, 18.0, 25.0, Signal(Basis.AVERAGE, Factors.LIFECYCLE), Kind.ESTIMATED,
        "electricity_maps", 1.79e9, 1.79e9 + 3600.0,
    )  # fmt: skip
    served = ServedModel("llama-3.1-8b", "", _PROFILE, math.inf)
    where = Endpoint("frankfurt-0", "frankfurt", "h:1", "openai", (served,), 64, "", "", False)
    decision = Decision(
        where, served, grid, 22.0, 12.0, 80.25, 8.0, 1700.0, 210.0, 0.0082, "london-0", 0.031,
        56.0, 1.25, UNBURDENED, (), (),
    )  # fmt: skip
    return [
        Receipt(
            decision_id("3039a1b2c3d4e5f6", number, 0.618, 497_222),
            Request("llama-3.1-8b", tenant="acme"), decision, "carbon-first", "frankfurt",
            "DE", 1, 200.0, 215.5, Provenance.ESTIMATED,
            101.0, 258.6, 0.0086, 81.0, 1712.0, 1.79e9, tokens_low=150.0, tokens_high=260.0,
            energy_low_j=180.0, energy_high_j=270.0, predicted=Predicted(210.0, 0.0082, 0.031),
        )
        for number in range(count)
    ]  # fmt: skip


def best_us(work: Callable[[], object], count: int) -> float:
    took = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        took.append((time.process_time() - began) / count * 1e6)
    return min(took)


def kept_us(kept: KeptReceipts, made: list[Receipt]) -> float:
    def keep() -> None:
        for receipt in made:
            kept.keep(receipt)

    return best_us(keep, len(made))


def sent_us(store: StateStore, made: list[Receipt]) -> float:
    async def rounds() -> float:
        shared = SharedReceipts(store, WallClock())
        kept, took = KeptReceipts(None, shared), []
        for _ in range(ROUNDS):
            for receipt in made:
                kept.keep(receipt)
            began = time.process_time()
            await shared.run()
            took.append((time.process_time() - began) / len(made) * 1e6)
        await store.close()
        return min(took)

    return asyncio.run(rounds())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", default="")
    url = parser.parse_args().redis
    made = receipts(MOST_WAITING)
    alone = kept_us(KeptReceipts(), made)
    workers = kept_us(KeptReceipts(SharedMemory(4).receipts(PARENT + 1)), made)
    gateways = kept_us(KeptReceipts(None, SharedReceipts(MemoryStore(), WallClock())), made)
    print(f"kept here {alone:.2f} us; beside, for other workers {workers - alone:.2f} us, "
          f"for other gateways {gateways - alone:.2f} us")  # fmt: skip
    if url:
        settings = redis_settings(RedisSchema(url=url), Path("/"))
        sent = sent_us(RedisStore(settings, lambda: Passwords()), made)
        print(f"sent to Redis in the background: {sent:.1f} us")


if __name__ == "__main__":
    main()

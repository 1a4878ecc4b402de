"""What carbon budgets add to a request: the judgement of its decision, the hold and its settlement.

Everything that runs on a request's way beside the decision itself, on 64 endpoints: of a process
alone, of one that draws on a shared counter, and of one of eight workers that look at each other.

    python -m benchmarks.budgets             # half a minute
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from router.config.settings import BudgetScope, CarbonBudget, CarbonBudgetSettings, OnExhausted
from router.core.carbon_budgets import CarbonBudgets
from router.core.day_account import Sharing
from router.core.emitted import most_g
from router.core.pipeline import decide
from router.model import Decision
from router.peers.spending import WorkerSpending, spending_nbytes
from router.units import micrograms
from tests import factories as f
from tests.core.worlds import EXPECTED

ENDPOINTS = 64
WORKERS = 8
SCOPES = (BudgetScope.TENANT, BudgetScope.MODEL, BudgetScope.FLEET)
HOWS = ("alone", "drawing", f"{WORKERS} workers")


def budgets(count: int, how: str) -> CarbonBudgets:
    """``count`` of them that are never spent."""
    chosen = tuple(
        CarbonBudget(scope, scope, 10**15, {}, OnExhausted.SHED, False) for scope in SCOPES[:count]
    )
    made = CarbonBudgets(CarbonBudgetSettings(chosen), f.SIGNAL)
    if how == "drawing":
        made.is_alone, made.sharing = False, Sharing(True, 3)
    elif how != "alone":
        memory = bytearray(spending_nbytes(WORKERS))
        workers = [WorkerSpending(memory, WORKERS, row) for row in range(1, WORKERS + 1)]
        made.shared = workers[0]
        for other in workers[1:]:
            for tenant in range(100):
                other.show(f"tenant:tenant:average-lifecycle:{tenant}", 19_676, 1, 1)
    return made


def request_of(count: int, how: str) -> Callable[[], object]:
    """One request with ``count`` budgets, from its decision to its settlement; 0: without."""
    fleet = f.fleet(*(f.endpoint(f"e{i:02d}", f"r{i % 8}") for i in range(ENDPOINTS)))
    snapshot = f.snapshot(fleet)
    board, dice, request = f.board(snapshot), f.Dice(), f.request(tenant="acme")
    if not count:
        return lambda: decide(request, snapshot, board, EXPECTED, f.NOW, dice)
    held = budgets(count, how)

    def judge(decision: Decision) -> object:
        region = fleet.regions[decision.endpoint.region]
        crowd = board.seats[decision.endpoint.name].crowd()
        ask_ug = micrograms(most_g(decision, EXPECTED, crowd, 0.0, region))
        return held.judge(request, ask_ug, f.NOW)

    def call() -> object:
        ruling = decide(request, snapshot, board, EXPECTED, f.NOW, dice, judge=judge).ruling
        hold = held.hold(ruling, f.NOW)
        hold.settle(1e-3, "measured")
        return hold.standing()

    return call


def best_us(call: Callable[[], object], rounds: int, calls: int) -> float:
    """Of one call, the least of the medians of ``rounds``."""
    return min(_median_us(call, calls) for _ in range(rounds))


def _median_us(call: Callable[[], object], calls: int) -> float:
    clock, taken = time.perf_counter_ns, []
    for _ in range(calls):
        before = clock()
        call()
        taken.append(clock() - before)
    return sorted(taken)[calls // 2] / 1e3


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=2000)
    wanted = parser.parse_args(arguments)
    gc.collect()
    gc.disable()
    plain_us = best_us(request_of(0, ""), wanted.rounds, wanted.calls)
    out = Table(title="Microseconds a request", title_justify="left")
    for heading in ("budgets", *HOWS):
        out.add_column(heading, justify="right")
    out.add_row("none: the decision", f"{plain_us:.1f}", "", "")
    for count in range(1, len(SCOPES) + 1):
        row = []
        for how in HOWS:
            took_us = best_us(request_of(count, how), wanted.rounds, wanted.calls)
            row.append(f"+ {took_us - plain_us:.1f}")
        out.add_row(str(count), *row)
    gc.enable()
    console = Console()
    console.print(machine("numba"), highlight=False)
    console.print(out)


if __name__ == "__main__":
    main()

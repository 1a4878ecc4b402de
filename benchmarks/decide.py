"""What a decision costs: the cost kernel alone, `pipeline.decide` (a question) and
`pipeline.decide` and what it teaches (a request that is forwarded), by size of the fleet.

In every round each size is measured beside its floor in the same process: a plain numba loop over
12 columns that keeps the least weighted sum, called from Python. Requests differ from call to call
(origin, budgets, lengths), so that no branch is learned by heart. Every call is timed on its own,
less what timing an empty function costs. Not measured: parsing, forwarding, the event loop.

    python -m benchmarks.decide            # about ten seconds
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable, Sequence
from itertools import cycle

import numba
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from router.config import shipped_profiles
from router.core.burden import burden_of
from router.core.kernel import choose
from router.core.lengths import Expected
from router.core.pipeline import decide
from router.core.question import question_of
from router.model import (
    UNLIMITED,
    Budget,
    Fleet,
    Forecast,
    Kind,
    LengthPrior,
    Policy,
    Provenance,
    Request,
    TokenProfile,
)
from tests import factories as f

REGIONS = 34
ORIGINS = 34
REQUESTS = 256
NOW = 1_700_000_600.0
# Microseconds at the median, by (what, endpoints).
TARGETS_US = {("kernel", 64): 1.5, ("forward", 64): 10.0, ("forward", 10_000): 60.0}
WHATS = {
    "floor": "12-column numba loop (floor)",
    "kernel": "kernel.choose",
    "decide": "pipeline.decide",
    "forward": "pipeline.decide, teach",
}

Call = Callable[[], object]


@numba.njit("i8(f8[:,::1], f8[::1])", error_model="numpy")
def floor_loop(columns, weights):  # type: ignore[no-untyped-def]
    """Row of the least weighted sum of 12 columns: the least that any cost kernel must do."""
    best, best_cost = -1, np.inf
    for i in range(columns.shape[1]):
        cost = 0.0
        for row in range(12):
            cost += weights[row] * columns[row, i]
        if cost < best_cost:
            best, best_cost = i, cost
    return best


def fleet(endpoints: int, rng: random.Random) -> Fleet:
    """Two kinds of replica spread over at most REGIONS regions."""
    names = [f"region-{number:02d}" for number in range(min(endpoints, REGIONS))]
    regions = [f.region(name, pue=rng.uniform(1.05, 1.6)) for name in names]
    served = [f.served(profile, context_tokens=131_072.0) for profile in profiles()]
    made = [
        f.endpoint(
            f"endpoint-{number:05d}", names[number % len(names)], rng.choice(served),
            max_in_flight=128, emulated=True,
        )
        for number in range(endpoints)
    ]  # fmt: skip
    rtt_ms = {
        f"origin-{number:02d}": {name: rng.uniform(2.0, 300.0) for name in names}
        for number in range(ORIGINS)
    }
    priors = {"llama": LengthPrior(300.0, 200.0, 500.0)}
    return f.fleet(*made, regions=regions, rtt_ms=rtt_ms, default_origin="origin-00", priors=priors)


def profiles() -> tuple[TokenProfile, ...]:
    """An 8B model on one H100 and on something slower."""
    measured = shipped_profiles()["llama-3.1-8b@1xh100"]
    assert isinstance(measured, TokenProfile)
    slower = TokenProfile(
        name="slower", idle_w=90.0, base_w=420.0, w_per_token_s=0.05, tpot_base_ms=9.0,
        tpot_ms_per_sequence=0.19, tpot_ms_per_cached_token=5e-5, prefill_base_ms=3.0,
        prefill_ms_per_token=0.06, prefill_ms_per_token2=6e-6, prefill_w=600.0, max_batch=256,
        target_batch=128, host_fraction=0.0, host_awake_w=105.0, host_idle_w=105.0,
        provenance=Provenance.ESTIMATED, source="benchmark",
    )  # fmt: skip
    return measured, slower


def policy() -> Policy:
    """The shipped carbon-first, with a default budget that nothing relaxes."""
    return f.shipped_policy(budget=Budget(e2e_ms=20_000.0), ladder=())


def forecasts(of: Fleet, rng: random.Random) -> dict[str, Forecast]:
    """A day of hourly values for every grid zone."""
    known = {"kind": Kind.FORECAST, "observed_at": NOW, "expires_at": NOW + 1e6}
    return {
        region.grid_zone: f.forecast(
            region.grid_zone, *(rng.uniform(20.0, 800.0) for _ in range(24)),
            start=NOW // f.HOUR * f.HOUR, **known,
        )
        for region in of.regions.values()
    }  # fmt: skip


class Subject:
    """One fleet size with what is called on it, each call with the next of the requests."""

    def __init__(self, endpoints: int) -> None:
        rng = random.Random(endpoints)
        one = fleet(endpoints, rng)
        self.endpoints = endpoints
        self._rng = rng
        self._snapshot = f.snapshot(one, policy(), forecasts(one, rng), now=NOW)
        self._board = f.board(self._snapshot)
        for seat in self._board.seats.values():
            for _ in range(rng.randrange(100)):
                # A prompt of 12 ms and 200 tokens; some hold the mean iteration down.
                cap_ms = rng.choice([UNLIMITED, UNLIMITED, 64.0])
                seat.take(burden_of(12.0, 300.0, 200.0, cap_ms), NOW - 60.0)
        self._asked = [self._request() for _ in range(REQUESTS)]
        self.calls: dict[str, Call] = {
            "floor": self._floor(),
            "kernel": self._kernel(),
            "decide": self._call(decide),
            "forward": self._forward(),
        }

    def _request(self) -> tuple[Request, Expected]:
        rng = self._rng
        budget = Budget(
            ttft_ms=rng.choice([UNLIMITED, 400.0, 800.0]),
            tpot_ms=rng.choice([UNLIMITED, 25.0, 40.0]),
            explicit=True,
        )
        request = Request("llama", origin=f"origin-{rng.randrange(ORIGINS):02d}", budget=budget)
        out = rng.uniform(50.0, 400.0)
        return request, Expected(rng.uniform(20.0, 2000.0), out, 2.5 * out)

    def _floor(self) -> Call:
        generator = np.random.default_rng(1)
        columns, weights = generator.random((12, self.endpoints)), generator.random(12)
        return lambda: floor_loop(columns, weights)

    def _kernel(self) -> Call:
        every = cycle([self._kernel_arguments(*one) for one in self._asked])
        return lambda: choose(*next(every))

    def _kernel_arguments(self, request: Request, expected: Expected) -> tuple[object, ...]:
        question = question_of(request, self._snapshot, self._board, expected, NOW, 0.0)
        columns = question.columns
        return (
            columns.table, self._board.live("llama", ""), columns.candidates.labels,
            columns.candidates.starts, self._snapshot.rungs[0], *question.scalars, question.cached,
            self._rng.random(), columns.scratch,
        )  # fmt: skip

    def _forward(self) -> Call:
        decided, board = self._call(decide), self._board

        def call() -> object:
            decision, need, *_ = decided()
            if need is not None:
                need.teach(board)
            return decision

        return call

    def _call(self, deciding: Callable[..., object]) -> Call:
        every, snapshot, board, rng = cycle(self._asked), self._snapshot, self._board, self._rng

        def call() -> object:
            request, expected = next(every)
            return deciding(request, snapshot, board, expected, NOW, rng)

        return call


def timed(call: Call, count: int) -> list[int]:
    """Nanoseconds of each of ``count`` calls, timing included."""
    clock, out = time.perf_counter_ns, []
    for _ in range(count):
        before = clock()
        call()
        out.append(clock() - before)
    return out


def microseconds(sample: Sequence[int], empty_ns: float, quantile: float) -> float:
    """The sample's quantile, less what timing costs."""
    return (float(np.quantile(sample, quantile)) - empty_ns) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoints", type=int, nargs="+", default=[8, 64, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=10)
    wanted = parser.parse_args()
    subjects = [Subject(endpoints) for endpoints in wanted.endpoints]
    samples: dict[tuple[str, int], list[int]] = {}
    empty: list[int] = []
    gc.collect()
    gc.disable()
    for warm in (False, *[True] * wanted.rounds):
        empty += timed(lambda: None, 2000)
        for subject in subjects:
            for what in WHATS:
                sample = timed(subject.calls[what], 2000 if subject.endpoints <= 64 else 500)
                if warm:
                    samples.setdefault((what, subject.endpoints), []).extend(sample)
    gc.enable()

    console = Console()
    console.print(machine("numba"), highlight=False)
    console.print(f"at most {REGIONS} regions, {ORIGINS} origins", highlight=False)
    console.print(table(samples, float(np.median(empty))))


def table(samples: dict[tuple[str, int], list[int]], empty_ns: float) -> Table:
    """One row a subject and what was called, with its floor first."""
    out = Table(title="Microseconds a call", title_justify="left")
    out.add_column("endpoints", justify="right")
    out.add_column("what")
    for heading in ("p50", "p99", "target"):
        out.add_column(heading, justify="right")
    out.add_column("")
    for (what, endpoints), sample in samples.items():
        p50, p99 = (microseconds(sample, empty_ns, quantile) for quantile in (0.5, 0.99))
        target = TARGETS_US.get((what, endpoints))
        verdict = "" if target is None else "met" if p50 <= target else "MISSED"
        out.add_row(
            f"{endpoints:,}" if what == "floor" else "", WHATS[what], f"{p50:.2f}", f"{p99:.2f}",
            "" if target is None else f"{target:g}", verdict, end_section=what == "forward",
        )  # fmt: skip
    return out


if __name__ == "__main__":
    main()

"""Simulated requests per second on one core: the compiled engine, and a toy beside it.

24 replicas of a 70B model on 4x H100 in six regions, one gateway, budgets on half of the requests,
hourly carbon views; every decision by the product's kernel, no rows. The toy, run in turn with it
in the same process, is the least that such a simulation must do: the same replicas as
processor-sharing queues, the emptiest one takes the next request; no network, energy, learning,
budgets or figures. Timed in CPU seconds of the process, best of several; requests are made before.

    python -m benchmarks.simulate          # about a minute, and half of one more when cold
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator

import numba
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from router.carbon.tables.table import TraceTable
from router.lab.sim.engine.run import simulate
from router.lab.sim.grid.signals import Perfect
from router.lab.sim.simulation import Gateways, Simulation
from router.lab.sim.traffic.columns import NO_OUTPUT_LIMIT, Names, Traffic
from router.model import Fleet, LengthPrior, Policy, Provenance, TokenProfile
from tests import factories as f

REGIONS = 6
# SCIENCE, sections 1 and 1b; with 200 streams and their prompts of 310 tokens a replica makes 3,000
# tokens/s.
PROFILE = TokenProfile(
    name="llama-3.1-70b@4xh100", idle_w=400.0, base_w=1671.0, w_per_token_s=0.133,
    tpot_base_ms=15.3, tpot_ms_per_sequence=0.107, tpot_ms_per_cached_token=2e-5,
    prefill_base_ms=4.0, prefill_ms_per_token=0.09, prefill_ms_per_token2=9e-6, prefill_w=2660.0,
    max_batch=256, target_batch=200, host_fraction=0.0, host_awake_w=420.0, host_idle_w=420.0,
    provenance=Provenance.MEASURED, source="SCIENCE section 1",
)  # fmt: skip
CAPACITY_TOKENS_S = 2500.0
MEAN_TOKENS = 200.0
TARGET = 2_000_000


def fleet(endpoints: int) -> Fleet:
    """Replicas spread over the regions in turn, an origin in each of them."""
    names = [f"region-{number}" for number in range(REGIONS)]
    rng = np.random.default_rng(1)
    served = f.served(PROFILE, context_tokens=131_072.0)
    made = [
        f.endpoint(f"e-{i:05d}", names[i % REGIONS], served, max_in_flight=200, emulated=True)
        for i in range(endpoints)
    ]
    rtt_ms = {
        origin: {name: 4.0 if name == origin else rng.uniform(20.0, 80.0) for name in names}
        for origin in names
    }
    return f.fleet(
        *made, regions=[f.region(name, pue=1.1) for name in names], rtt_ms=rtt_ms,
        default_origin=names[0], priors={"llama": LengthPrior(300.0, MEAN_TOKENS, 500.0)},
    )  # fmt: skip


def policy() -> Policy:
    """The shipped carbon-first."""
    return f.shipped_policy()


class Poisson:
    """Requests made beforehand, in one chunk."""

    def __init__(self, of: Fleet, requests: int, duration_s: float) -> None:
        self.names = Names(tuple(of.rtt_ms), ("llama",), ("",), (frozenset(),))
        rng = np.random.default_rng(2)
        codes = np.zeros(requests, np.int32)
        none = np.full(requests, math.inf)
        sigma = 0.8
        tokens = rng.lognormal(math.log(MEAN_TOKENS) - sigma**2 / 2.0, sigma, requests)
        self.traffic = Traffic(
            np.cumsum(rng.exponential(0.999 * duration_s / requests, requests)),
            rng.integers(0, REGIONS, requests).astype(np.int32), codes, codes, codes,
            rng.integers(20, 600, requests).astype(np.int32),
            np.clip(tokens, 1, 2000).astype(np.int32),
            np.where(rng.random(requests) < 0.5, math.inf, 600.0),
            np.where(rng.random(requests) < 0.5, math.inf, 50.0), none, none,
            np.full(requests, NO_OUTPUT_LIMIT, np.int32),
        )  # fmt: skip

    def chunks(self) -> Iterator[Traffic]:
        """The one chunk."""
        yield self.traffic


def scenario(endpoints: int, requests: int, load: float) -> Simulation:
    """``load``: of the tokens that the fleet can make."""
    of = fleet(endpoints)
    duration_s = requests * MEAN_TOKENS / (load * endpoints * CAPACITY_TOKENS_S)
    hours = math.ceil(duration_s / 3600.0) + 8
    values = np.random.default_rng(3).uniform(50.0, 700.0, (hours, REGIONS))
    zones = tuple(region.grid_zone for region in of.regions.values())
    table = TraceTable("benchmark", zones, f.START, f.HOUR, values)
    return Simulation(
        name="benchmark", fleet=of, policies=(), start=f.START, duration_s=duration_s, seed=1,
        health=f.health_settings(), workload=Poisson(of, requests, duration_s),
        carbon_signal=f.SIGNAL, actual=table, annual_means={},
        signal=Perfect(table, f.SIGNAL), gateways=Gateways(1, 0.0), outages=(),
        autoscaling=None, network_kwh_per_gb=0.001, warm_up_s=0.0,
    )  # fmt: skip


@numba.njit(error_model="numpy", cache=True)
def toy(arrival_s, tokens, replicas):  # type: ignore[no-untyped-def]
    """Requests finished by processor-sharing replicas fed by join-the-shortest-queue."""
    keys = np.empty((replicas, 4096))
    size = np.zeros(replicas, np.int64)
    clock, now, due = np.zeros(replicas), np.zeros(replicas), np.full(replicas, np.inf)
    done, cursor = 0, 0
    while True:
        r = np.argmin(due)
        arrival = arrival_s[cursor] if cursor < arrival_s.size else np.inf
        at = min(due[r], arrival)
        if at == np.inf:
            return done
        ends = due[r] <= arrival
        if not ends:
            r = np.argmin(size)
        heap = keys[r]
        if size[r] > 0:
            clock[r] += (at - now[r]) / (15.3e-3 + 0.107e-3 * size[r])
        now[r] = at
        if ends:
            done += 1
            size[r] -= 1
            last, i, child = heap[size[r]], 0, 1
            while child < size[r]:
                if child + 1 < size[r] and heap[child + 1] < heap[child]:
                    child += 1
                if last <= heap[child]:
                    break
                heap[i] = heap[child]
                i, child = child, 2 * child + 1
            heap[i] = last
        else:
            key, i = clock[r] + tokens[cursor], size[r]
            while i > 0 and heap[(i - 1) // 2] > key:
                heap[i] = heap[(i - 1) // 2]
                i = (i - 1) // 2
            heap[i] = key
            size[r] += 1
            cursor += 1
        due[r] = np.inf
        if size[r] > 0:
            left = max(0.0, heap[0] - clock[r])
            due[r] = now[r] + left * (15.3e-3 + 0.107e-3 * size[r])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=500_000)
    parser.add_argument("--endpoints", type=int, default=24)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--rounds", type=int, default=7)
    wanted = parser.parse_args()
    started = time.process_time()
    simulate(scenario(wanted.endpoints, 1000, 0.5), policy())
    first_s = time.process_time() - started
    out = Table(title=f"Simulated requests/s, {wanted.endpoints} endpoints", title_justify="left")
    for heading in ("load", "toy", "engine", "of the toy", f"target {TARGET:,}"):
        out.add_column(heading, justify="right")
    for load in wanted.loads:
        simulation = scenario(wanted.endpoints, wanted.requests, load)
        (traffic,) = simulation.workload.chunks()
        tokens = traffic.output_tokens.astype(np.float64)
        toy(traffic.arrival_s[:10], tokens[:10], wanted.endpoints)
        best = {"toy": math.inf, "engine": math.inf}
        for _ in range(wanted.rounds):
            before = time.process_time()
            toy(traffic.arrival_s, tokens, wanted.endpoints)
            between = time.process_time()
            result = simulate(simulation, policy())
            after = time.process_time()
            best["toy"] = min(best["toy"], between - before)
            best["engine"] = min(best["engine"], after - between)
        if result.completed != wanted.requests:
            raise SystemExit(f"{result.completed} of {wanted.requests} requests were answered")
        rates = {name: wanted.requests / seconds for name, seconds in best.items()}
        verdict = "met" if rates["engine"] >= TARGET else "MISSED"
        out.add_row(
            f"{load:.0%}", f"{rates['toy']:,.0f}", f"{rates['engine']:,.0f}",
            f"{rates['engine'] / rates['toy']:.0%}", verdict,
        )  # fmt: skip
    console = Console()
    console.print(machine("numba"), highlight=False)
    console.print(f"first simulation, compiling or loading: {first_s:.1f} s", highlight=False)
    console.print(out)


if __name__ == "__main__":
    main()

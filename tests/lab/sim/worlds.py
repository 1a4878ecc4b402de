"""Small simulations that tests of the simulator share, and their pure-Python twin's run."""

import hashlib
import math
from dataclasses import replace

import numpy as np

from router.carbon.tables.table import TraceTable
from router.lab.replay.replay import CarbonView, Scenario, _Replay
from router.lab.replay.timed import Period, TimedRequest
from router.lab.sim.engine.run import Learning
from router.lab.sim.grid.signals import Perfect
from router.lab.sim.simulation import Gateways, Simulation
from router.lab.sim.traffic.chained import chains_of
from router.lab.sim.traffic.columns import NO_OUTPUT_LIMIT, Names, Traffic
from router.model import (
    Budget,
    LengthPrior,
    Prefix,
    PromptOrder,
    Request,
    Spread,
    TaskProfile,
)
from tests import factories as f

AT_ONCE = Learning(1, math.inf)


class Requests:
    """A workload of rows (arrival_s, origin, model, tenant, residency, input, output, budget
    [, limit on output]). ``blocks``: names of those that each prompt begins with, None: not known.
    """

    def __init__(self, names, rows, chunk=1_000_000, blocks=None):
        self.names = names
        self.rows = rows
        self.chunk = chunk
        self.blocks = blocks

    def chunks(self):
        for first in range(0, len(self.rows), self.chunk):
            chains = None
            if self.blocks is not None:
                chains = chains_of(self.blocks[first : first + self.chunk])
            traffic = self._traffic(self.rows[first : first + self.chunk])
            yield replace(traffic, chains=chains)

    def _traffic(self, rows):
        whole = [
            (*row[:7], *row[7][:3], math.inf, *(row[8:] or (NO_OUTPUT_LIMIT,))) for row in rows
        ]
        columns = list(zip(*whole, strict=True))
        kinds = [np.float64] + [np.int32] * 6 + [np.float64] * 4 + [np.int32]
        return Traffic(*(np.array(c, kind) for c, kind in zip(columns, kinds, strict=True)))


def trace(fleet, values, hours=3, start=f.START):
    """One column a grid zone; ``values``: g/kWh by zone, or one for every hour of every zone."""
    zones = tuple(dict.fromkeys(r.grid_zone for r in fleet.regions.values()))
    rows = np.array([np.broadcast_to(values[zone], hours) for zone in zones], np.float64).T
    return TraceTable("test", zones, start // f.HOUR * f.HOUR, f.HOUR, np.ascontiguousarray(rows))


def simulation(fleet, rows, values, duration_s=600.0, models=("m",), tenants=("",), **changes):
    """``values``: see `trace`; its first hour is the one that holds ``start``."""
    residencies = changes.pop("residencies", (frozenset(),))
    table = trace(fleet, values, changes.pop("hours", 3), changes.get("start", f.START))
    block_tokens, blocks = changes.pop("block_tokens", 512), changes.pop("blocks", None)
    names = Names(tuple(fleet.rtt_ms), models, tenants, residencies, block_tokens)
    given = {
        "name": "test", "fleet": fleet, "policies": (), "health": f.health_settings(),
        "start": f.START, "duration_s": duration_s, "seed": 7,
        "workload": Requests(names, rows, changes.pop("chunk", 1_000_000), blocks),
        "carbon_signal": f.SIGNAL, "actual": table, "annual_means": {},
        "signal": Perfect(table, f.SIGNAL), "gateways": Gateways(1, 0.0), "outages": (),
        "autoscaling": None, "network_kwh_per_gb": 0.0, "warm_up_s": 0.0,
    }  # fmt: skip
    return Simulation(**{**given, **changes})


class Stream:
    """The engine's random numbers, drawn one after the other."""

    def __init__(self, simulation, policy):
        text = f"{simulation.seed}/{policy.name}".encode()
        self.state = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")

    def random(self):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        x = self.state
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return ((x ^ (x >> 31)) >> 11) * 2.0**-53


class Twin(_Replay):
    """The replay, which keeps what it took to read each prompt, too, J."""

    def __init__(self, *given):
        super().__init__(*given)
        self.prompts_j = {}

    def _answer(self, ended, at_s):
        self.prompts_j[ended.key] = ended.prompt_energy_j
        super()._answer(ended, at_s)


def twin(simulation, policy):
    """The same simulation for `router.lab.replay.replay`, to be run."""
    return Twin(twin_scenario(simulation), policy, Stream(simulation, policy))


def twin_scenario(simulation):
    """The same as the replay wants it: a wall that runs at the speed of the grid."""
    names, signal, start = simulation.workload.names, simulation.signal, simulation.start
    timed = [timed_request(names, row) for row in simulation.workload.rows]
    for place, blocks in enumerate(simulation.workload.blocks or ()):
        prefix = Prefix(chains_of([blocks]).keys, float(names.block_tokens))
        request = timed[place].request._replace(prefix=prefix)
        timed[place] = timed[place]._replace(request=request)
    updates = signal.updates(start, start + simulation.duration_s)
    return Scenario(
        simulation.fleet, timed, Period(simulation.duration_s, start, 1.0),
        [CarbonView(at - start, signal.view(at)) for at in updates], simulation.annual_means,
        Perfect(simulation.actual, f.SIGNAL).view(start), simulation.health,
        simulation.path_delay_ms, float(names.block_tokens),
    )  # fmt: skip


def timed_request(names, row):
    at_s, origin, model, tenant, residency, n_in, n_out, budget, *limit = row
    request = Request(
        names.models[model], origin=names.origins[origin], tenant=names.tenants[tenant],
        residency=names.residencies[residency], budget=budget, input_tokens=float(n_in),
        max_output_tokens=float(limit[0]) if limit else math.inf,
    )  # fmt: skip
    return TimedRequest(at_s, request, n_out, "", streamed=True)


class Kept:
    """A sink that keeps everything."""

    def __init__(self):
        self.parts, self.minutes = [], []

    def requests(self, columns):
        self.parts.append(columns)

    def replicas(self, columns):
        self.minutes.append(columns)

    def rows(self):
        """Columns of every request, in the order of the list of requests."""
        if not self.parts:
            return {"request": np.empty(0, np.int64)}
        whole = {name: np.concatenate([p[name] for p in self.parts]) for name in self.parts[0]}
        order = np.argsort(whole["request"])
        return {name: column[order] for name, column in whole.items()}


SMALL = f.token_profile(
    "small", max_batch=6, target_batch=4, tpot_ms_per_sequence=4.0, prefill_base_ms=50.0
)
OTHER = f.token_profile("other", max_batch=3, target_batch=2, idle_w=120.0, tpot_base_ms=9.0)
# Reads long prompts in pieces, at any price: in order of slots, and as they come.
PIECES = f.token_profile(
    "pieces", max_batch=4, target_batch=3, prefill_ms_per_piece=1.5, prefill_ms_per_token2=1e-3,
    tpot_ms_per_cached_token=2e-3, max_batched_tokens=64, prompt_order=PromptOrder.SLOT,
    host_awake_w=150.0, host_idle_w=70.0,
)  # fmt: skip
IN_TURN = replace(PIECES, name="in-turn", prompt_order=PromptOrder.FCFS, max_batched_tokens=100)
# Keep some of the prompts that they read: a dozen of those above, and two.
KEEPS = replace(PIECES, name="keeps", prefix_cache_tokens=2048)
KEEPS_LITTLE = replace(IN_TURN, name="keeps-little", prefix_cache_tokens=300, prefix_block=20)
IMAGE = f.task_profile()


def fleet(*kinds, max_in_flight=8):
    """``kinds``: of replica by region; each (region, profile, model)."""
    endpoints = [
        f.endpoint(f"{region}-{i}", region, f.served(profile, model), max_in_flight=max_in_flight)
        for i, (region, profile, model) in enumerate(kinds)
    ]
    names = sorted({region for region, _, _ in kinds})
    regions = [f.region(name, (name,), pue=1.1 + 0.1 * at) for at, name in enumerate(names)]
    rtt = {
        origin: {name: 3.0 + 17.0 * abs(at - place) for place, name in enumerate(names)}
        for at, origin in enumerate(("here", "there"))
    }
    priors = {
        model: LengthPrior(1.0, 1.0, 1.0)
        if isinstance(profile, TaskProfile)
        else LengthPrior(100.0, 60.0, 150.0)
        for _, profile, model in kinds
    }
    return f.fleet(*endpoints, regions=regions, rtt_ms=rtt, default_origin="here", priors=priors)


def busy(requests=800, rate=60.0, **changes):
    """Many requests on a small fleet, some shed."""
    rng = np.random.default_rng(11)
    replicas = [(region, SMALL, "m") for region in "aabbc"]
    rows, at_s = [], 0.0
    for _ in range(requests):
        at_s += rng.exponential(1.0 / rate)
        budget = Budget(ttft_ms=150.0) if rng.random() < 0.3 else Budget()
        out = int(rng.lognormal(3.0, 0.7)) + 1
        rows.append((at_s, int(rng.integers(2)), 0, 0, 0, int(rng.integers(1, 300)), out, budget))
    zones = {"grid-a": 400.0, "grid-b": 250.0, "grid-c": 90.0}
    return simulation(fleet(*replicas, max_in_flight=8), rows, zones, **changes)


PACKED = f.policy(name="packed", near_tie=0.02, spread=Spread.PACK)

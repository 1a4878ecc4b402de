"""Small simulations that tests of the compiled engine share, and their pure-Python twin's run."""

import hashlib
import math
from dataclasses import replace

import numpy as np

from router.carbon.tables.table import TraceTable
from router.config.settings import HealthSettings
from router.lab.replay.replay import CarbonView, Scenario, _Replay
from router.lab.replay.timed import Period, TimedRequest
from router.lab.sim.engine.run import Learning
from router.lab.sim.simulation import Gateways, Simulation
from router.lab.sim.traffic.columns import NO_OUTPUT_LIMIT, Names, Traffic
from router.model import Forecast, Kind, LengthPrior, Request, TaskProfile
from tests import factories as f

START = 1_652_511_600.0
HEALTH = HealthSettings(5.0, 2.0, 5, 10.0, 20, 10.0, 300.0, 0.5, 1.0, 5.0)
AT_ONCE = Learning(1, math.inf)


class Requests:
    """A workload of rows (arrival_s, origin, model, tenant, residency, input, output, budget
    [, limit on output])."""

    def __init__(self, names, rows, chunk=1_000_000):
        self.names = names
        self.rows = rows
        self.chunk = chunk

    def chunks(self):
        for first in range(0, len(self.rows), self.chunk):
            yield self._traffic(self.rows[first : first + self.chunk])

    def _traffic(self, rows):
        whole = [
            (*row[:7], *row[7][:3], math.inf, *(row[8:] or (NO_OUTPUT_LIMIT,))) for row in rows
        ]
        columns = list(zip(*whole, strict=True))
        kinds = [np.float64] + [np.int32] * 6 + [np.float64] * 4 + [np.int32]
        return Traffic(*(np.array(c, kind) for c, kind in zip(columns, kinds, strict=True)))


class Hourly:
    """A perfect signal over a table, updated every ``every_s`` seconds."""

    def __init__(self, table, every_s=3600.0):
        self.table = table
        self.every_s = every_s

    def updates(self, start, end):
        at = start
        while at < end:
            yield at
            at += self.every_s

    def view(self, now):
        first = int((now - self.table.start) // 3600.0)
        return {
            zone: forecast(self.table, column, first)
            for column, zone in enumerate(self.table.grid_zones)
        }


def forecast(table, column, first=0):
    values = table.g_per_kwh[first : first + 24, column].tolist()
    slots = tuple(
        f.intensity(g, kind=Kind.MEASURED, observed_at=START, expires_at=math.inf) for g in values
    )
    return Forecast(table.grid_zones[column], table.start + 3600.0 * first, 3600.0, slots)


def trace(fleet, values, hours=3):
    """One column a grid zone; ``values``: g/kWh by zone, or one for every hour of every zone."""
    zones = tuple(dict.fromkeys(r.grid_zone for r in fleet.regions.values()))
    rows = np.array([np.broadcast_to(values[zone], hours) for zone in zones], np.float64).T
    return TraceTable("test", zones, START, 3600.0, np.ascontiguousarray(rows))


def simulation(fleet, rows, values, duration_s=600.0, models=("m",), tenants=("",), **changes):
    residencies = changes.pop("residencies", (frozenset(),))
    table = trace(fleet, values, changes.pop("hours", 3))
    names = Names(tuple(fleet.rtt_ms), models, tenants, residencies)
    given = {
        "name": "test", "fleet": fleet, "policies": (), "health": HEALTH, "start": START,
        "duration_s": duration_s, "seed": 7,
        "workload": Requests(names, rows, changes.pop("chunk", 1_000_000)),
        "carbon_signal": f.SIGNAL, "actual": table, "annual_means": {}, "signal": Hourly(table),
        "gateways": Gateways(1, 0.0), "outages": (), "autoscaling": None,
        "network_kwh_per_gb": 0.0, "warm_up_s": 0.0,
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


def twin(simulation, policy):
    """The same run by `router.lab.replay.replay`."""
    return _Replay(twin_scenario(simulation), policy, Stream(simulation, policy)).run()


def twin_scenario(simulation):
    names = simulation.workload.names
    timed = [timed_request(names, row) for row in simulation.workload.rows]
    table, end = simulation.actual, simulation.start + simulation.duration_s
    views = [
        CarbonView(at - START, simulation.signal.view(at))
        for at in simulation.signal.updates(START, end)
    ]
    return Scenario(
        simulation.fleet, timed, Period(simulation.duration_s, START, 1.0), views,
        simulation.annual_means,
        {zone: forecast(table, column) for column, zone in enumerate(table.grid_zones)},
        simulation.health, simulation.path_delay_ms,
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
    made = f.fleet(*endpoints, regions=regions, rtt_ms=rtt, default_origin="here")
    priors = {
        model: LengthPrior(1.0, 1.0, 1.0)
        if isinstance(profile, TaskProfile)
        else LengthPrior(100.0, 60.0, 150.0)
        for _, profile, model in kinds
    }
    return replace(made, priors=priors)

"""A plan instead of a replay: a policy over a `Simulation` as flows, a year in a minute.

    outcome = run_fluid(simulation, policy)

In every slot (an hour, or shorter) the demand of each origin and class is placed by the product's
own kernel in small steps on replicas that fill as they do so (`router.lab.sim.fluid.fill`); what it
comes to is the steady state of the same physics that `router.lab.sim.engine.loop` runs request by
request. Demand varies within a slot, so five levels of it are taken, a fifth of the time each: of
variance 1 / (requests in flight), as Poisson arrivals have, and that of the rate by minutes.

A `PolicyResult` as `router.lab.sim.engine.run` gives it, with these differences. Every figure is an
estimate. There are no single requests, so latencies are empty and ``met`` and ``peak_over_cap`` are
NaN. Gateways are one, exact, and have learned where they sent requests: latency predictions hold,
lengths are known. Where a policy holds back from waking replicas, several states last by
themselves, and which one a simulation is in depends on what came before; a plan takes one. Left
out are queues, what runs across a slot's end, requests lost in flight when a replica goes down,
and wake-up times. Fleet energy and grams, attributional and short-run marginal figures, shares and
refusals are counted as in a simulation. Where prompts are long or lengths vary much, a policy that
fills replicas to a limit parts short prompts from long ones in a simulation, and its plan lies
below that: grams by up to a fifth (`tests/lab/sim/fluid/test_run.py` has the gaps). Policies that
spread are met within a few percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core import kernel_rows as k
from router.core.latency import z_of
from router.lab.replay.physics import Physics
from router.lab.sim.engine import state as s
from router.lab.sim.engine.build import build_world, survey
from router.lab.sim.engine.carbon import CarbonViews
from router.lab.sim.engine.run import require_actual
from router.lab.sim.fluid.account import FluidAccount
from router.lab.sim.fluid.demand import Demand, Lengths, SlotDemand, gather
from router.lab.sim.fluid.fill import COUNTED, LOADS, Filled, Flows, Steps, fill, occupancies
from router.lab.sim.result import REASONS, PolicyResult
from router.lab.sim.simulation import Simulation
from router.model import Policy, Spread
from router.units import HOUR_S

# Standard normal quantiles at 0.1, 0.3, ... 0.9, scaled to a variance of 1.
NODES: Final = (-1.4633, -0.5988, 0.0, 0.5988, 1.4633)
# Replicas wake and room gets scarce at peaks beyond those levels, in standard deviations.
PEAK: Final = 2.5
# Of the log of actual over predicted TPOT, as the engine's gateways learn it: 0.01 to 0.02. What
# prompts make of it comes on top (`router.lab.sim.fluid.fill`).
LEARNED_SD: Final = 0.0125
# Of a queue, as a share of its mean: a factor of 1.8 at the 95 % quantile. The engine's gateways
# learn 1.2 to 2.3 on the median with policies that go by TTFT, 3 to 5 with those that pack, and
# from one replica to the next 1.1 to 8; a plan has one.
LEARNED_QUEUE_SD: Final = 0.5
_MOST_SPREAD: Final = 0.6
_LEAST_STEPS, _MOST_STEPS = 400, 6000
_STEPS_PER_REPLICA: Final = 40
_LEAST_STEPS_OF_FLOW: Final = 4

Floats = NDArray[np.float64]
Progress = Callable[[float], None]


def run_fluid(
    simulation: Simulation,
    policy: Policy,
    demand: Demand | None = None,
    slot_s: float = HOUR_S,
    progress: Progress | None = None,
) -> PolicyResult:
    """One policy over the scenario, slot by slot.

    ``demand``: from `gather`, to be shared by several policies (``slot_s`` is then its own).
    ``progress``: told the share of the scenario's duration that is done. Raises as
    `router.lab.sim.engine.run.simulate` does.
    """
    if demand is None:
        demand = gather(simulation, slot_s)
    return _Run(simulation, policy, demand, progress).run()


def make_ready(simulation: Simulation, policy: Policy) -> None:
    """Have what is compiled at hand, as `router.lab.sim.engine.run.make_ready` does."""
    none, nothing = np.zeros(0), np.zeros(0, np.int64)
    _Run(simulation, policy, Demand(none, (), (), {}), None).place(
        Flows(np.zeros((0, 4), np.int64), np.zeros((0, 8))),
        Steps(nothing, none, none, nothing),
        0.0,
    )


class _Run:
    def __init__(
        self, simulation: Simulation, policy: Policy, demand: Demand, progress: Progress | None
    ) -> None:
        self._simulation = simulation
        self._policy = policy
        self._demand = demand
        self._progress = progress
        self._site = survey(simulation)
        self._world = build_world(simulation, policy, self._site, (1, 0, 1))
        require_actual(simulation, self._world.plant)
        self._deviates = z_of(policy.quantile), z_of(policy.tpot_quantile)
        self._limits = np.array([float(e.max_in_flight) for e in simulation.fleet.endpoints])
        self._together = self._groups()
        self._account = FluidAccount(simulation, policy, self._site, self._world.plant)
        self._lengths = self._expected()
        self._draws = 0
        self._lasting = 0.0
        self._fresh = True
        self._usual = np.zeros(len(self._limits))

    def run(self) -> PolicyResult:
        """Slot by slot."""
        simulation, edges = self._simulation, self._demand.edges
        views = CarbonViews(simulation, self._policy, self._site)
        updates, due = views.at_s, 0
        for at, slot in enumerate(self._demand.slots):
            begin_s, end_s = float(edges[at]), float(edges[at + 1])
            while due < len(updates) and updates[due] <= begin_s + 1e-6:
                self._update(views, due)
                due += 1
            self._outages(begin_s)
            filled = self._fill(slot, begin_s, end_s)
            counts = float(slot.requests.sum())
            occupied = self._occupied(filled, slot.active)
            self._account.book(begin_s, end_s, counts, filled, *occupied)
            if self._progress and at % 64 == 0:
                self._progress(end_s / simulation.duration_s)
        return self._account.outcome()

    def _update(self, views: CarbonViews, update: int) -> None:
        """A new carbon view comes into force."""
        views.show(self._world, update)
        self._account.moved(views.at_s[update])

    def _outages(self, at_s: float) -> None:
        """Who is down from ``at_s`` on, in truth and as gateways know it."""
        if not self._simulation.outages:
            return
        down: set[str] = set()
        noticed: set[str] = set()
        for outage in self._simulation.outages:
            if outage.start_s <= at_s < outage.end_s:
                down |= outage.endpoints
            late_s = outage.noticed_after_s
            if outage.start_s + late_s <= at_s < outage.end_s + late_s:
                noticed |= outage.endpoints
        states, gates = self._world.plant.states, self._world.gates
        for e, name in enumerate(self._site.endpoints):
            for m, row in gates.cells[gates.cell_starts[e] : gates.cell_starts[e + 1]].tolist():
                gates.live[0, m, k.ELIGIBLE, row] = 0.0 if name in noticed else 1.0
            states[states[:, s.ENDPOINT] == e, s.STATE] = s.DOWN if name in down else s.UP

    def _fill(self, slot: SlotDemand, begin_s: float, end_s: float) -> Filled:
        if not len(slot.flow):
            self._usual[:] = 0.0
            return self._empty()
        flows = self._flows(slot)
        steps = self._steps(slot, flows, (end_s - begin_s) * slot.active)
        middle = self._simulation.start + (begin_s + end_s) / 2.0
        left_s = float(self._world.scalars[s.HOUR_ENDS_AT]) - middle
        return self.place(flows, steps, left_s)

    def place(self, flows: Flows, steps: Steps, left_s: float) -> Filled:
        """Fill empty replicas; ``left_s``: of the hour.

        The first slot once more than others, as it takes requests to learn how quick endpoints
        are, and callers' first choices are learned before others are tried. Where waking or room
        has a price, twice: first to see who is awake and what room is worth, from how the slot
        before ended.
        """
        learning = self._world.columns.rungs
        policy = learning[0]
        waking = policy[k.WAKE_ENERGY] + policy[k.WAKE_PREMIUM] > 0.0
        prices = bool(policy[k.W_GCO2E] > 0.0 and (waking or policy[k.SCARCITY] > 0.0))
        first = learning.copy()
        first[:, k.NEAR_TIE] = 0.0
        rounds = [(first, 0.0)] * self._fresh + [(learning, 0.0)] * prices
        for rungs, last in [*rounds, (learning, 1.0)]:
            filled = self._empty()
            self._draws = fill(
                self._world, self._limits, flows, steps, filled, self._usual, self._draws, left_s,
                (*self._deviates, LEARNED_SD, LEARNED_QUEUE_SD, last), rungs,
            )  # fmt: skip
        self._fresh = False
        return filled

    def _empty(self) -> Filled:
        names = self._simulation.workload.names
        replicas = len(self._world.plant.replicas)
        return Filled(
            np.zeros((replicas, LOADS)), np.zeros((len(NODES), replicas, LOADS)),
            np.zeros((replicas, COUNTED)),
            np.zeros((len(names.origins), len(names.models), len(self._site.regions))),
            np.zeros(len(REASONS)), np.zeros(len(self._policy.ladder)),
        )  # fmt: skip

    def _flows(self, slot: SlotDemand) -> Flows:
        columns, scalars = self._world.columns, self._world.scalars
        n_in = slot.input_tokens / slot.requests
        n_out = slot.output_tokens / slot.requests
        codes = np.zeros((len(slot.flow), 4), np.int64)
        asks = np.zeros((len(slot.flow), 8))
        for at, place in enumerate(slot.flow.tolist()):
            flow, expected = self._demand.flows[place], self._lengths[place]
            codes[at] = (
                columns.origin_rows[flow.origin], flow.model, columns.masks[flow.residency],
                flow.origin,
            )  # fmt: skip
            asks[at, :3] = flow.ttft_ms, flow.tpot_ms, flow.e2e_ms
            asks[at, 5:7] = expected
        asks[:, 3], asks[:, 4] = n_in, n_out
        asks[:, 7] = scalars[s.NETWORK_J_PER_TOKEN] * n_in
        return Flows(codes, asks)

    def _steps(self, slot: SlotDemand, flows: Flows, length_s: float) -> Steps:
        """Each flow in equal steps, about one request in flight each; flows take turns."""
        rates = slot.requests / length_s
        each_s = np.array([self._residence_s(m) for m in range(len(self._site.candidates))])
        model = flows.codes[:, 1]
        in_flight = rates * (each_s[model, 0] + each_s[model, 1] * flows.asks[:, 4])
        total = float(in_flight.sum())
        most = max(_MOST_STEPS, _STEPS_PER_REPLICA * len(self._world.plant.replicas))
        count = min(max(_LEAST_STEPS, total), most)
        parts = np.maximum(_LEAST_STEPS_OF_FLOW, np.rint(count * in_flight / total))
        spread = min(_MOST_SPREAD, math.sqrt(1.0 / max(total, 1e-9) + slot.burst))
        self._lasting = min(1.0, slot.burst / spread**2)
        levels = 1.0 + spread * np.array(NODES)
        taken = np.ceil(parts * (1.0 + spread * PEAK)).astype(np.int64)
        flow = np.repeat(np.arange(len(parts)), taken)
        index = np.arange(len(flow)) - np.repeat(np.cumsum(taken) - taken, taken)
        phase = (0.5 + 0.6180339887498949 * flow) % 1.0
        at = (index + phase) / parts[flow]
        weight = 1.0 - np.searchsorted(levels, at, side="right") / len(levels)
        order = np.argsort(at, kind="stable")
        whole = np.bincount(flow, weight, len(parts))
        requests = weight * (slot.requests / whole)[flow]
        ends = np.searchsorted(at[order], levels, side="right")
        return Steps(
            flow[order],
            (rates / parts)[flow[order]],
            requests[order],
            ends.astype(np.int64),
        )

    def _residence_s(self, m: int) -> tuple[float, float]:
        """Roughly: seconds a request of model ``m`` is in flight, and more for each token."""
        physics = Physics.of(self._site.candidates[m].served[0].profile)
        per_token_s = physics.tpot_s(min(physics.max_batch, 64))
        return physics.prefill_base_s + 0.05, per_token_s

    def _groups(self) -> Floats:
        """How many alike replicas share their requests evenly, by replica."""
        weights = self._policy.weights
        states = self._world.plant.states
        models = np.array([model for _, _, _, model in self._site.replicas])
        if weights.per_turn:
            # Their arrivals are as regular as a pair's that shares them, not their batches.
            return np.full(len(models), 2.0)
        if weights.per_load:
            return np.array(np.bincount(models)[models], np.float64)
        if self._policy.spread is Spread.PACK:
            return np.ones(len(models))
        key = models * len(self._site.regions) + states[:, s.REGION]
        return np.array(np.bincount(key)[key], np.float64)

    def _expected(self) -> list[Lengths]:
        """Of every flow; the same for all of a model and tenant."""
        known: dict[tuple[int, int], Lengths] = {}
        names, fleet = self._simulation.workload.names, self._simulation.fleet
        for flow in self._demand.flows:
            key = flow.model, flow.tenant
            if key not in known:
                prior = fleet.priors[names.models[flow.model]]
                known[key] = self._demand.expected(prior, flow, self._policy.quantile)
        return [known[flow.model, flow.tenant] for flow in self._demand.flows]

    def _occupied(self, filled: Filled, active: float) -> tuple[Floats, Floats, Floats]:
        """Shares of time busy and added, and requests/s, by replica."""
        count = len(filled.loads)
        busy, added, rate = np.zeros(count), np.zeros(count), np.zeros(count)
        occupancies(
            self._world.plant, filled.noted, self._together, self._lasting, busy, added, rate
        )
        return busy * active, added * active, rate * active

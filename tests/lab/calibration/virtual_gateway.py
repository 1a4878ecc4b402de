"""The gateway's director over emulated replicas, on a clock that jumps: a live run of no machine.

What `compare_live` measures with processes, less sockets, timers and whatever else is late: what is
left of a difference is the gateway's doing, or the simulation's.
"""

import asyncio
import math
import random
from typing import NamedTuple

import numpy as np

from router._pb import inference_pb2 as pb
from router.app import runtime as module
from router.app.compose import build_limits
from router.app.loading import load
from router.app.runtime import Runtime
from router.contract import Upstream
from router.core.lengths import LengthModel
from router.core.prefixes import NO_KEYS
from router.core.retry import RetryBudget
from router.director import Call, Director, Dispatcher, Parts
from router.errors import CarbonRouterError
from router.lab.calibration import document, twin
from router.lab.calibration.figures import Answers
from router.lab.calibration.live_sample import sample
from router.lab.calibration.signal_table import signal_table
from router.lab.emulator import messages
from router.lab.emulator.cost import RequestCost
from router.lab.emulator.emulation import Emulation
from router.lab.emulator.service import _wrap
from router.lab.emulator.work import Work
from router.lab.replay.replica import Ended
from router.load.answers import ServerReports
from tests.director.support import Watch
from tests.director.virtual_time import run

TICK_S = 0.1
REFRESH_S = 0.5


class Played(NamedTuple):
    """Both sides of the same requests."""

    live: Answers
    simulated: Answers
    regions: tuple[str, ...]


class Clock:
    """Carbon time runs as fast as the period has it, durations at the loop's own pace."""

    def __init__(self, period):
        self._period = period
        self._loop = asyncio.get_running_loop()

    def now(self):
        return self._period.carbon_time(self._loop.time())

    def monotonic(self):
        return self._loop.time()


class Replicas:
    """A `Backend` of emulated endpoints; a payload is the number of its request."""

    def __init__(self, fleet, requests):
        self.requests = requests
        self.emulations = {
            one.name: Emulation(one, fleet, random.Random(1), lambda: None)
            for one in fleet.endpoints
        }

    def stream(self, endpoint, payload, metadata, timeout_s):
        return Stream(self.emulations[endpoint.name], self.requests[int(payload)])

    def stop(self):
        for emulation in self.emulations.values():
            emulation.stop()


class Stream:
    """Two messages, as callers of a live run ask for them: at the first token, and at the end."""

    def __init__(self, emulation, timed):
        self._emulation = emulation
        self._timed = timed
        self._trailers = ()

    async def __aiter__(self):
        request = self._timed.request
        model = self._emulation.find(request.model)
        said = pb.ModelInferRequest(model_name=request.model)
        tokens = float(self._timed.output_tokens)
        work = Work(request.input_tokens, tokens, math.inf, 1e6, NO_KEYS)
        async with self._emulation.passage(
            model, work, request.origin, None, streams=True
        ) as passage:
            while not isinstance(event := await passage.next(), Ended):
                yield _wrap(messages.answer(said, model.version, "", final=False))
        cost = RequestCost.of([event], model.profile.max_batch)
        self._trailers = messages.energy_trailers(cost)
        yield _wrap(messages.answer(said, model.version, "", final=True))

    def initial_metadata(self):
        return ()

    def trailers(self):
        return self._trailers

    def cancel(self):
        pass


def played(simulation, seconds, folder, monkeypatch):
    """Play the first hours of ``simulation`` within ``seconds`` of virtual time, and simulate."""
    # On a loop that jumps, nobody waits for a thread.
    monkeypatch.setattr(module.asyncio, "to_thread", _at_once)
    (policy,) = simulation.policies
    chosen = sample(simulation, seconds, simulation.seed)
    known = signal_table(simulation, chosen.period)
    config = load(document.write(simulation, policy, chosen, known, folder))
    live = run(_live(config, chosen))
    virtual = twin.twin_of(simulation, config.fleet, chosen, chosen.period, known)
    simulated, _ = twin.run(virtual, config.policy, simulation.seed)
    return Played(live, simulated, tuple(config.fleet.regions))


async def _at_once(function, *arguments):
    return function(*arguments)


async def _live(config, chosen):
    clock = Clock(chosen.period)
    runtime = Runtime(config, clock)
    replicas = Replicas(config.fleet, chosen.requests)
    dispatcher = runtime.dispatcher = Dispatcher(
        await runtime.start(),
        Parts(
            {"oip": Upstream(replicas, ServerReports(lambda: None))}, Watch(),
            LengthModel(config.fleet.priors, config.policy.quantile), RetryBudget(0.2, 10.0),
            clock, random.Random(2),
        ),
        build_limits(config.settings),
        "virtual",
    )  # fmt: skip
    loop, director, callers = asyncio.get_running_loop(), Director(dispatcher), []
    beside = [loop.create_task(_ticks(runtime)), loop.create_task(_refreshes(runtime))]
    async with asyncio.TaskGroup() as group:
        for number, timed in enumerate(chosen.requests):
            await asyncio.sleep(max(0.0, timed.at_s - loop.time()))
            callers.append(group.create_task(_call(director, number, timed)))
    for task in beside:
        task.cancel()
    replicas.stop()
    return _answers([one.result() for one in callers], tuple(config.fleet.regions))


async def _ticks(runtime):
    while True:
        await asyncio.sleep(TICK_S)
        runtime.board.tick(runtime.clock.monotonic())
        runtime.dispatcher.parts.budget.tick(runtime.clock.monotonic())
        runtime.dispatcher.digest()


async def _refreshes(runtime):
    while True:
        await asyncio.sleep(REFRESH_S)
        await runtime.refresh()


async def _call(director, number, timed):
    """(first token, end, receipt), ms; a reason where it was refused."""
    loop = asyncio.get_running_loop()
    began, first = loop.time(), math.nan
    stream = director.stream(Call(timed.request, str(number).encode(), (), None))
    try:
        async for _ in stream:
            if math.isnan(first):
                first = loop.time()
    except CarbonRouterError as error:
        return error.reason
    return (first - began) * 1e3, (loop.time() - began) * 1e3, stream.receipt


def _answers(found, regions):
    refused = [one for one in found if isinstance(one, str)]
    rows = [one for one in found if not isinstance(one, str)]
    receipts = [receipt for *_, receipt in rows]
    return Answers(
        region=np.array([regions.index(receipt.region) for receipt in receipts], np.int64),
        ttft_ms=np.array([ttft_ms for ttft_ms, _, _ in rows]),
        e2e_ms=np.array([e2e_ms for _, e2e_ms, _ in rows]),
        energy_j=np.array([receipt.energy_j for receipt in receipts]),
        marginal_energy_j=np.array([receipt.marginal_energy_j for receipt in receipts]),
        gco2e=np.array([receipt.gco2e for receipt in receipts]),
        met=np.ones(len(rows), np.bool_),
        refused={reason: refused.count(reason) for reason in set(refused)},
    )

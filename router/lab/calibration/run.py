"""One scenario twice: through the real gateway on loopback, and simulated; then side by side."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router.app.loading import load
from router.config import Config
from router.lab.calibration import document, twin
from router.lab.calibration.comparison import Comparison, FleetFigures, Side, as_json
from router.lab.calibration.figures import (
    Answers,
    Loopback,
    checks,
    host_timing,
    loopback,
    rows,
    shortcomings,
)
from router.lab.calibration.live_sample import MOST_RPS, LiveSample, sample
from router.lab.calibration.signal_table import longer, signal_table
from router.lab.loopback.client import CallOptions
from router.lab.loopback.ending import cancel_on_sigterm
from router.lab.loopback.live import LiveInputs, LiveResult, LiveRunSpec, LiveView, run_live
from router.lab.loopback.settle import actual, settled
from router.lab.replay.records import FleetEnergy, Record
from router.lab.replay.timed import Period
from router.lab.sim.result import FleetAccount
from router.lab.sim.simulation import Simulation
from router.model import Fleet, Policy

# The first token and the end are two messages; those between would only cost time.
_STREAM_EVERY = 1_000_000
_TOLD_EVERY_S = 10.0
_DRAWS = 9

Tell = Callable[[str], None]


def compare_live(
    simulation: Simulation,
    policy: Policy,
    out: Path,
    seconds: float,
    seed: int,
    tell: Tell | None = None,
    most_rps: float = MOST_RPS,
) -> Comparison:
    """Play the first hours of ``simulation`` live within about ``seconds``, then simulate them.

    Writes live.yaml, known.csv, logs and comparison.json into ``out``; ``tell`` hears how it goes.
    The simulation is run without and with the delay that probes find of the loopback.
    Raises ConfigError, TraceError, and what `router.lab.loopback.ending.FAILURES` names; nothing is
    left running then. SIGTERM while it plays raises CancelledError. ``most_rps``: the busiest
    twentieth of the time, requests/s.
    """
    say = tell or (lambda text: None)
    say("Choosing requests, and asking the signal what is known hour by hour ...")
    chosen = sample(simulation, seconds, seed, most_rps)
    known = signal_table(simulation, chosen.period)
    loaded = load(document.write(simulation, policy, chosen, known, out))
    say(
        f"Starting {len(chosen.endpoints)} emulated model servers and the gateway for "
        f"{chosen.period.seconds:g} s (configuration: {loaded.file}) ..."
    )
    result = asyncio.run(_run_live(_spec(simulation, loaded, chosen, say), out))
    say(f"Simulating the same requests, {_DRAWS} draws of near-ties ...")
    path = loopback(result.added_ms)

    def draws_of(virtual: Simulation) -> list[tuple[Answers, FleetAccount]]:
        return central([twin.run(virtual, loaded.policy, seed + draw) for draw in range(_DRAWS)])

    virtual = twin.twin_of(simulation, loaded.fleet, chosen, result.period, known)
    unaware = draws_of(virtual)
    virtual = replace(virtual, path_delay_ms=dict.fromkeys(loaded.fleet.regions, path.delay_ms))
    runs = draws_of(virtual)
    comparison = _compare(result, virtual, loaded, (runs, unaware), path, chosen.notes)
    text = json.dumps(as_json(comparison), indent=1, sort_keys=True, allow_nan=False)
    (out / "comparison.json").write_text(text + "\n", encoding="utf-8")
    return comparison


def central(
    runs: Sequence[tuple[Answers, FleetAccount]],
) -> list[tuple[Answers, FleetAccount]]:
    """The draws by rising grams, but the middle one first: it is the one that is compared."""
    ordered = sorted(runs, key=lambda one: math.fsum(one[0].gco2e.tolist()))
    middle = len(ordered) // 2
    return [ordered[middle], *ordered[:middle], *ordered[middle + 1 :]]


async def _run_live(spec: LiveRunSpec, out: Path) -> LiveResult:
    cancel_on_sigterm()
    return await run_live(spec, out)


def _compare(
    result: LiveResult,
    virtual: Simulation,
    loaded: Config,
    sides: tuple[Sequence[tuple[Answers, FleetAccount]], Sequence[tuple[Answers, FleetAccount]]],
    path: Loopback,
    notes: Sequence[str],
) -> Comparison:
    """``sides``: draws of the simulation with the loopback's delay, and without."""
    runs = sides[0]
    live, receipts_g = _live(result, loaded.fleet)
    draws, without = ([answers for answers, _ in one] for one in sides)
    regions = tuple(loaded.fleet.regions)
    offered = len(result.inputs.requests)
    found = rows(regions, live, draws)
    cpu = {name: used / result.period.seconds for name, used in result.cpu_s.items()}
    kept = host_timing(result.lags.callers, result.lags.servers, cpu)
    return Comparison(
        scenario=virtual.name,
        policy=loaded.policy.name,
        period=result.period,
        offered=offered,
        draws=len(draws),
        rows=tuple(found),
        checks=tuple(checks(regions, live, draws, offered)),
        unaware=tuple(checks(regions, live, without, offered)),
        path=path,
        live=Side(live.refused, _fleet(result.drawn)),
        simulated=Side(draws[0].refused, _fleet(runs[0][1])),
        receipts_gco2e=receipts_g,
        known_off_g_per_kwh=_known_off(result, virtual),
        machine=kept,
        shortcomings=shortcomings(kept, offered, rows(regions, live, without)[-1]),
        notes=tuple(notes),
    )


def _spec(simulation: Simulation, loaded: Config, chosen: LiveSample, say: Tell) -> LiveRunSpec:
    zones = {region.grid_zone for region in loaded.fleet.regions.values()}
    truth = actual(longer(simulation.actual), sorted(zones), simulation.carbon_signal)

    async def prepare(period: Period) -> LiveInputs:
        return LiveInputs(chosen.requests, truth)

    async def show(view: LiveView) -> None:
        counts = view.counts
        while True:
            await asyncio.sleep(_TOLD_EVERY_S)
            say(
                f"{len(counts.records)}/{view.offered} answered, {counts.in_flight} in flight, "
                f"{counts.refused.total()} refused"
            )

    # No deadline: it would be a latency budget that the scenario does not have.
    return LiveRunSpec(
        loaded, chosen.period, CallOptions(None, _STREAM_EVERY), prepare, show, probes=True
    )


def _live(result: LiveResult, fleet: Fleet) -> tuple[Answers, float]:
    """The live answers, grams settled at what the grids really emitted; and as receipts said."""
    records = settled(result.counts.records, fleet, result.inputs.actual, result.period)
    places = {name: place for place, name in enumerate(fleet.regions)}
    receipts_g = math.fsum(r.gco2e for r in result.counts.records if not math.isnan(r.gco2e))
    answers = Answers(
        region=np.array([places.get(record.region, -1) for record in records], np.int64),
        ttft_ms=_column(records, "ttft_ms"),
        e2e_ms=_column(records, "e2e_ms"),
        energy_j=_column(records, "energy_j"),
        marginal_energy_j=_column(records, "marginal_energy_j"),
        gco2e=_column(records, "gco2e"),
        met=np.array([record.met for record in records], np.bool_),
        refused=dict(result.counts.refused),
    )
    return answers, receipts_g


def _column(records: Sequence[Record], name: str) -> NDArray[np.float64]:
    return np.array([getattr(record, name) for record in records], np.float64)


def _fleet(account: FleetEnergy | FleetAccount) -> FleetFigures:
    return FleetFigures(account.busy_j, account.idle_j, account.busy_g, account.idle_g)


def _known_off(result: LiveResult, virtual: Simulation) -> float:
    """Most by which the gateway's view of a grid, as it told it, differs from the signal's."""
    worst = 0.0
    period = result.period
    for reading in result.readings:
        at_s = (reading.carbon_time - period.carbon_start) / period.speed
        if not 0.0 <= at_s < period.seconds:
            continue
        view = virtual.signal.view(virtual.start + at_s)
        for name, region in virtual.fleet.regions.items():
            known = reading.g_per_kwh.get(name, math.nan)
            worst = max(worst, abs(known - view[region.grid_zone].slots[0].g_per_kwh))
    return worst

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
from router.lab.calibration.cut import MOST_RPS, Cut, cut
from router.lab.calibration.figures import (
    Answers,
    Loopback,
    checks,
    loopback,
    machine,
    rows,
    shortcomings,
)
from router.lab.calibration.known import known_table, longer
from router.lab.loopback.client import Manner
from router.lab.loopback.ending import cancel_on_sigterm
from router.lab.loopback.settle import actual, settled
from router.lab.loopback.stage import Cast, Play, Played, Scene, perform
from router.lab.replay.records import FleetEnergy, Record
from router.lab.replay.timed import Period
from router.lab.sim.outcome import FleetAccount
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
    chosen = cut(simulation, seconds, seed, most_rps)
    known = known_table(simulation, chosen.period)
    loaded = load(document.write(simulation, policy, chosen, known, out))
    say(
        f"Starting {len(chosen.endpoints)} emulated model servers and the gateway for "
        f"{chosen.period.seconds:g} s (configuration: {loaded.file}) ..."
    )
    played = asyncio.run(_perform(_play(simulation, loaded, chosen, say), out))
    say(f"Simulating the same requests, {_DRAWS} draws of near-ties ...")
    path = loopback(played.added_ms)

    def draws_of(virtual: Simulation) -> list[tuple[Answers, FleetAccount]]:
        return central([twin.run(virtual, loaded.policy, seed + draw) for draw in range(_DRAWS)])

    virtual = twin.twin_of(simulation, loaded.fleet, chosen, played.period, known)
    unaware = draws_of(virtual)
    virtual = replace(virtual, path_delay_ms=dict.fromkeys(loaded.fleet.regions, path.delay_ms))
    runs = draws_of(virtual)
    comparison = _compare(played, virtual, loaded, (runs, unaware), path, chosen.notes)
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


async def _perform(play: Play, out: Path) -> Played:
    cancel_on_sigterm()
    return await perform(play, out)


def _compare(
    played: Played,
    virtual: Simulation,
    loaded: Config,
    sides: tuple[Sequence[tuple[Answers, FleetAccount]], Sequence[tuple[Answers, FleetAccount]]],
    path: Loopback,
    notes: Sequence[str],
) -> Comparison:
    """``sides``: draws of the simulation with the loopback's delay, and without."""
    runs = sides[0]
    live, receipts_g = _live(played, loaded.fleet)
    draws, without = ([answers for answers, _ in one] for one in sides)
    regions = tuple(loaded.fleet.regions)
    offered = len(played.cast.requests)
    found = rows(regions, live, draws)
    cpu = {name: used / played.period.seconds for name, used in played.cpu_s.items()}
    kept = machine(played.lags.callers, played.lags.servers, cpu)
    return Comparison(
        scenario=virtual.name,
        policy=loaded.policy.name,
        period=played.period,
        offered=offered,
        draws=len(draws),
        rows=tuple(found),
        checks=tuple(checks(regions, live, draws, offered)),
        unaware=tuple(checks(regions, live, without, offered)),
        path=path,
        live=Side(live.refused, _fleet(played.drawn)),
        simulated=Side(draws[0].refused, _fleet(runs[0][1])),
        receipts_gco2e=receipts_g,
        known_off_g_per_kwh=_known_off(played, virtual),
        machine=kept,
        shortcomings=shortcomings(kept, offered, rows(regions, live, without)[-1]),
        notes=tuple(notes),
    )


def _play(simulation: Simulation, loaded: Config, chosen: Cut, say: Tell) -> Play:
    zones = {region.grid_zone for region in loaded.fleet.regions.values()}
    truth = actual(longer(simulation.actual), sorted(zones), simulation.carbon_signal)

    async def cast(period: Period) -> Cast:
        return Cast(chosen.requests, truth)

    async def show(scene: Scene) -> None:
        outcome = scene.outcome
        while True:
            await asyncio.sleep(_TOLD_EVERY_S)
            say(
                f"{len(outcome.records)}/{scene.offered} answered, {outcome.in_flight} in flight, "
                f"{outcome.refused.total()} refused"
            )

    # No deadline: it would be a latency budget that the scenario does not have.
    return Play(loaded, chosen.period, Manner(None, _STREAM_EVERY), cast, show, probes=True)


def _live(played: Played, fleet: Fleet) -> tuple[Answers, float]:
    """The live answers, grams settled at what the grids really emitted; and as receipts said."""
    records = settled(played.outcome.records, fleet, played.cast.actual, played.period)
    places = {name: place for place, name in enumerate(fleet.regions)}
    receipts_g = math.fsum(r.gco2e for r in played.outcome.records if not math.isnan(r.gco2e))
    answers = Answers(
        region=np.array([places.get(record.region, -1) for record in records], np.int64),
        ttft_ms=_column(records, "ttft_ms"),
        e2e_ms=_column(records, "e2e_ms"),
        energy_j=_column(records, "energy_j"),
        marginal_energy_j=_column(records, "marginal_energy_j"),
        gco2e=_column(records, "gco2e"),
        met=np.array([record.met for record in records], np.bool_),
        refused=dict(played.outcome.refused),
    )
    return answers, receipts_g


def _column(records: Sequence[Record], name: str) -> NDArray[np.float64]:
    return np.array([getattr(record, name) for record in records], np.float64)


def _fleet(account: FleetEnergy | FleetAccount) -> FleetFigures:
    return FleetFigures(account.busy_j, account.idle_j, account.busy_g, account.idle_g)


def _known_off(played: Played, virtual: Simulation) -> float:
    """Most by which the gateway's view of a grid, as it told it, differs from the signal's."""
    worst = 0.0
    period = played.period
    for sight in played.sights:
        at_s = (sight.carbon_time - period.carbon_start) / period.speed
        if not 0.0 <= at_s < period.seconds:
            continue
        view = virtual.signal.view(virtual.start + at_s)
        for name, region in virtual.fleet.regions.items():
            known = sight.g_per_kwh.get(name, math.nan)
            worst = max(worst, abs(known - view[region.grid_zone].slots[0].g_per_kwh))
    return worst

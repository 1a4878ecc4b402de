"""What it costs that several gateways decide: grams, caps, and traffic that moves.

Simulated: requests of a scenario are spread over gateways, which know of each other by the
exchange that gateways on one Redis make (docs/state.md). "cap" replaces ``max_in_flight`` of every
endpoint. "moved": share of the traffic whose region changes from one update of the carbon signal to
the next, mean and largest; the first column is what one gateway moves, which sees all there is.

    python -m benchmarks.many_gateways               # about 10 minutes
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from router.lab.sim.engine.run import simulate
from router.lab.sim.result import PolicyResult
from router.lab.sim.scenario.loading import load
from router.lab.sim.simulation import Simulation

SCENARIOS = Path(__file__).resolve().parents[1] / "docs" / "scenarios"
# As `router.peers.exchange_pace` has it for rows of this size.
EXCHANGE_S = 0.075
POLICY = "carbon-first"


def with_gateways(simulation: Simulation, count: int, cap: int) -> Simulation:
    """The same scenario with so many gateways, and ``cap`` requests at once at each endpoint."""
    endpoints = tuple(replace(one, max_in_flight=cap) for one in simulation.fleet.endpoints)
    exchange_s = EXCHANGE_S if count > 1 else 0.0
    gateways = replace(simulation.gateways, count=count, exchange_s=exchange_s)
    return replace(
        simulation, fleet=replace(simulation.fleet, endpoints=endpoints), gateways=gateways
    )


def moved(result: PolicyResult) -> tuple[float, float]:
    """(mean, largest) share of the traffic that moves at an update."""
    shares = np.array([share for _, share in result.moved])
    return float(shares.mean()), float(shares.max())


def rows(name: str, cap: int, counts: list[int], seed: int | None) -> list[tuple[str, ...]]:
    """One for each number of gateways; the first is one gateway."""
    simulation = load(SCENARIOS / f"{name}.yaml", [POLICY], seed=seed).simulation
    made, base = [], None
    for count in (1, *counts):
        many = with_gateways(simulation, count, cap)
        found = simulate(many, many.policies[0])
        base = base or found
        per_request_g = found.fleet.total_g / found.completed
        more = per_request_g / (base.fleet.total_g / base.completed) - 1.0
        mean, most = moved(found)
        over = np.array([b for _, b in found.moved]) - np.array([b for _, b in base.moved])
        made.append((
            name, str(cap), str(count), f"{found.fleet.total_g:,.0f}", f"{more:+.1%}",
            f"{1.0 - found.completed / found.offered:.2%}", f"{found.met:.2%}",
            f"{found.peak_over_cap:+.0%}", f"{mean:.1%} / {most:.1%}",
            f"{over.mean():+.1%} / {over.max():+.1%}",
        ))  # fmt: skip
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenarios", nargs="+", default=["us-six-grids-30", "us-six-grids-70"])
    parser.add_argument("--caps", nargs="+", type=int, default=[40, 200])
    parser.add_argument("--counts", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--seed", type=int)
    asked = parser.parse_args()
    console = Console(width=150)
    console.print(machine("numba"))
    table = Table(
        "scenario", "cap", "gateways", "fleet g", "g a request", "not served", "SLO met",
        "over cap", "moved mean / max", "more than one gateway",
        title=f"{POLICY}, emulated, exchange every {EXCHANGE_S * 1e3:g} ms",
    )  # fmt: skip
    for name in asked.scenarios:
        for cap in asked.caps:
            for row in rows(name, cap, asked.counts, asked.seed):
                table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()

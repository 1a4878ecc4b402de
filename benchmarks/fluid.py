"""Fluid planning: seconds for a year of 34 regions, and how close it comes to the engine.

    python -m benchmarks.fluid year [--hours 8760] [--requests 100000000] [--policies ...]
    python -m benchmarks.fluid agree docs/scenarios/us-six-grids-50.yaml [--hours 24] [--loads ...]

``year`` makes up requests for the regions of a scenario (docs/scenarios/global-100ms.yaml, whose
intensities are read from beside the repository) over ``--hours`` and plans them. CPU seconds of the
process, once each: what is known of the grid and the demand first, then each policy. ``--loads``:
that much of the fleet's capacity, one after the other, instead of the scenario's own.
"""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from router.lab.sim.bound.run import bound, regret
from router.lab.sim.engine.run import simulate
from router.lab.sim.fluid.demand import gather
from router.lab.sim.fluid.run import run_fluid
from router.lab.sim.grid.signal_columns import signal_columns
from router.lab.sim.scenario.loading import load
from router.lab.sim.simulation import Simulation
from router.lab.sim.tune.train_test import window

POLICIES = ("carbon-first", "latency-first", "least-loaded", "round-robin", "static-greenest")


def year(wanted: argparse.Namespace, console: Console) -> None:
    """The scenario at hand, stretched to so many hours and thinned to so many requests."""
    text = wanted.scenario.read_text("utf-8")
    rps = wanted.requests / (wanted.hours * 3600.0)
    text = text.replace("start: 2022-05-18T00:00Z", "start: 2022-01-01T00:00Z")
    text = text.replace("duration: 24h", f"duration: {wanted.hours}h")
    text = text.replace("load: 0.5", f"mean_rps: {rps:.6f}")
    simulation = _load(text, wanted)
    began = time.process_time()
    signal_columns(simulation.signal, simulation.start, simulation.start + simulation.duration_s)
    console.print(f"carbon signal: {time.process_time() - began:.1f} s", highlight=False)
    began = time.process_time()
    demand = gather(simulation, wanted.slot_s)
    console.print(f"requests counted: {time.process_time() - began:.1f} s", highlight=False)
    out = Table(title=f"{wanted.hours} h, 34 regions", title_justify="left")
    for heading in ("policy", "requests", "kg CO2e", "fleet, kg CO2e", "CPU s"):
        out.add_column(heading, justify="right")
    for policy in simulation.policies:
        began = time.process_time()
        found = run_fluid(simulation, policy, demand)
        seconds = time.process_time() - began
        out.add_row(
            policy.name, f"{found.completed:,}", f"{found.gco2e / 1e3:,.1f}",
            f"{found.fleet.total_g / 1e3:,.1f}", f"{seconds:.1f}",
        )  # fmt: skip
    console.print(out)
    if wanted.bound:
        began = time.process_time()
        least = bound(simulation, simulation.policies[0])
        seconds = time.process_time() - began
        console.print(f"bound: {least.busy_g / 1e3:,.1f} kg, {seconds:.1f} s", highlight=False)


def _load(text: str, wanted: argparse.Namespace) -> Simulation:
    """A scenario of this text, beside the original: the files that it names are relative to it."""
    file = wanted.scenario.with_name(".fluid-benchmark.yaml")
    try:
        file.write_text(text, "utf-8")
        return load(file, policies=wanted.policies).simulation
    finally:
        file.unlink(missing_ok=True)


def agree(wanted: argparse.Namespace, console: Console) -> None:
    """Engine and plan side by side over the scenario's first hours, at every load."""
    text = wanted.scenario.read_text("utf-8")
    for share in wanted.loads or [None]:
        at = text if share is None else re.sub(r"load: [\d.]+", f"load: {share}", text)
        title = wanted.scenario.name + ("" if share is None else f", load {share:g}")
        _agree(_load(at, wanted), title, wanted, console)


def _agree(whole: Simulation, title: str, wanted: argparse.Namespace, console: Console) -> None:
    simulation = replace(window(whole, 0.0, wanted.hours * 3600.0), warm_up_s=0.0)
    demand = gather(simulation, wanted.slot_s)
    least = bound(simulation, simulation.policies[0]).busy_g if wanted.bound else 0.0
    out = Table(title=title, title_justify="left")
    for heading in ("policy", "g", "marginal g", "fleet g", "share, points", "regret", "engine's"):
        out.add_column(heading, justify="right", no_wrap=heading == "policy")
    for policy in simulation.policies:
        exact, found = simulate(simulation, policy), run_fluid(simulation, policy, demand)
        shares = exact.shares()
        apart = max(abs(share - shares[name]) for name, share in found.shares().items())
        out.add_row(
            policy.name, f"{found.gco2e / exact.gco2e - 1.0:+.2%}",
            f"{found.marginal_gco2e / exact.marginal_gco2e - 1.0:+.2%}",
            f"{found.fleet.total_g / exact.fleet.total_g - 1.0:+.2%}", f"{100 * apart:.1f}",
            f"{regret(found.gco2e, least):+.2%}", f"{regret(exact.gco2e, least):+.2%}",
        )  # fmt: skip
    console.print(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["year", "agree"])
    default = Path(__file__).resolve().parents[1] / "docs" / "scenarios" / "global-100ms.yaml"
    parser.add_argument("scenario", type=Path, nargs="?", default=default)
    parser.add_argument("--hours", type=int, default=None)
    parser.add_argument("--requests", type=float, default=1e8)
    parser.add_argument("--slot-s", type=float, default=3600.0)
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--loads", type=float, nargs="+", default=None)
    parser.add_argument("--no-bound", dest="bound", action="store_false")
    wanted = parser.parse_args()
    wanted.hours = wanted.hours or (8760 if wanted.what == "year" else 24)
    console = Console()
    console.print(machine("numba"), highlight=False)
    (year if wanted.what == "year" else agree)(wanted, console)


if __name__ == "__main__":
    main()

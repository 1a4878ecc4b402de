"""What it costs to know what prompts begin with, and what it saves.

Microseconds at 64 endpoints, every one of which keeps 400,000 tokens of prompts; then the fleet of
``docs/scenarios/us-talks.yaml`` under gateways that look at what prompts begin with and under some
that do not: its own talks, or a Mooncake trace, whose requests come from its origins by their
shares and tolerate a TTFT of 2 s and three times that of a replica alone, and a TPOT of 100 ms.

    python -m benchmarks.prefixes                                       # half a minute
    python -m benchmarks.prefixes --trace conversation_trace.jsonl.gz   # another two
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from router.core.prefix_index import PrefixIndex
from router.core.prefixes import chain_words
from router.director.call import Prompt
from router.director.prompts import Prefixes
from router.lab.sim.engine.run import simulate
from router.lab.sim.result import PolicyResult
from router.lab.sim.scenario.loading import load
from router.model import Prefix
from tests import factories as f

SCENARIO = Path(__file__).resolve().parents[1] / "docs" / "scenarios" / "us-talks.yaml"
ENDPOINTS, BLOCKS, SHARED, TALKS = 64, 100, 10, 60
POLICIES = ("carbon-first", "latency-first", "least-loaded")


def chain(words: list[int]) -> Prefix:
    """As of a prompt of so many blocks."""
    names = np.array(words, np.int64)
    keys = np.empty_like(names)
    chain_words(names, np.array([0, len(names)]), 1, keys)
    return Prefix(keys, 128.0)


def warm_index() -> tuple[PrefixIndex, list[Prefix]]:
    """An index that is full of prompts with a shared beginning, and some of those."""
    profile = f.token_profile(prefix_cache_tokens=400_000)
    made = [f.endpoint(f"e{i}", "west", f.served(profile)) for i in range(ENDPOINTS)]
    index = PrefixIndex(f.snapshot(f.fleet(*made)).layout.find("llama", ""))
    rng, prompts = random.Random(1), []
    for row in range(ENDPOINTS):
        for _ in range(TALKS):
            own = [rng.getrandbits(60) for _ in range(BLOCKS - SHARED)]
            prompts.append(chain([*range(SHARED), *own]))
            index.depart(row, prompts[-1], 12_900.0, 1.0)
    return index, rng.sample(prompts, 1000)


def micros(call: Callable[[], object], number: int) -> float:
    """Of one call, the best of five rounds."""
    return min(timeit.repeat(call, number=number, repeat=5)) / number * 1e6


def costs() -> Table:
    """Microseconds of everything that a request with a prompt adds."""
    index, prompts = warm_index()
    turn = iter(prompts * 100_000)
    unknown, data = chain(list(range(10**6, 10**6 + BLOCKS))), os.urandom(51_200)
    prefixes = Prefixes(random.Random(1))
    table = Table("what", "us", title=f"{ENDPOINTS} endpoints, prompts of {BLOCKS} blocks (50 KiB)")
    for what, call, number in (
        ("hash the prompt", lambda: prefixes.of(Prompt(data, 0, 51_200), 51_200, 12_900.0), 2000),
        ("expected, begins alike everywhere", lambda: index.expected(next(turn), 12_900.0), 5000),
        ("expected, unknown", lambda: index.expected(unknown, 12_900.0), 5000),
        ("depart", lambda: index.depart(7, next(turn), 12_900.0, 1.0), 5000),
    ):  # fmt: skip
        table.add_row(what, f"{micros(call, number):.2f}")
    return table


def of_trace(trace: Path, folder: Path, scenario: dict[str, Any]) -> None:
    """Put a trace's requests in the place of those of ``scenario``."""
    demand = scenario["workload"]["generate"]["origins"]
    shares = [one["share"] for one in demand.values()]
    rng, path = random.Random(0), folder / "trace.csv"
    opened = gzip.open if trace.suffix == ".gz" else open
    with opened(trace, "rt", encoding="utf-8") as lines, path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([
            "arrival_s", "origin", "model", "input_tokens", "output_tokens", "ttft_budget_ms",
            "tpot_budget_ms", "hash_ids",
        ])  # fmt: skip
        for line in lines:
            one = json.loads(line)
            n = one["input_length"]
            alone_ms = 0.0844 * n + 8.44e-6 * n * n / 2.0
            rows.writerow([
                one["timestamp"] / 1e3, rng.choices([*demand], shares)[0], "llama-3.1-70b", n,
                one["output_length"], 2000.0 + 3.0 * alone_ms, 100.0,
                " ".join(map(str, one["hash_ids"])),
            ])  # fmt: skip
    scenario.update(workload={"file": str(path)}, duration="59m", warm_up="10m")
    scenario["endpoints"][0]["models"][0]["context_tokens"] = 131_072


def run(scenario: dict[str, Any], folder: Path, policy: str) -> PolicyResult:
    """One policy over a scenario."""
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(scenario), "utf-8")
    simulation = load(path, [policy]).simulation
    return simulate(simulation, simulation.policies[0])


def savings(trace: Path | None) -> Table:
    """The same fleet with and without gateways that look."""
    table = Table(
        "policy", "prompts kept", "looked at", "answered", "SLO met", "cached", "p50 TTFT ms",
        "p95 TTFT ms", "MJ", "g", "fleet MJ", "fleet g",
        title=trace.name if trace else SCENARIO.name,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        scenario = yaml.safe_load(SCENARIO.read_text("utf-8"))
        for part in ("carbon", "rtt"):
            scenario[part]["file"] = str(SCENARIO.parent / scenario[part]["file"])
        if trace is not None:
            of_trace(trace, Path(name), scenario)
        served = scenario["endpoints"][0]["models"][0]
        kept = served["prefix_cache_tokens"]
        for policy in POLICIES:
            for tokens, looks in ((0, False), (kept, False), (kept, True)):
                served["prefix_cache_tokens"] = tokens
                scenario["gateways"] = {"prefixes": looks}
                found = run(scenario, Path(name), policy)
                table.add_row(
                    policy, f"{tokens:,}", "yes" if looks else "no",
                    f"{found.completed:,}/{found.offered:,}", f"{found.met:.2%}",
                    f"{found.prompts.cached_share:.1%}", f"{found.ttft_ms.quantile(0.5):.0f}",
                    f"{found.ttft_ms.quantile(0.95):.0f}", f"{found.energy_j / 1e6:.1f}",
                    f"{found.gco2e:,.0f}", f"{found.fleet.total_j / 1e6:.1f}",
                    f"{found.fleet.total_g:,.0f}",
                )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", type=Path, help="a Mooncake trace, .jsonl or .jsonl.gz")
    trace = parser.parse_args().trace
    console = Console(width=140)
    console.print(machine("numba"))
    console.print(costs())
    console.print(savings(None))
    if trace is not None:
        console.print(savings(trace))


if __name__ == "__main__":
    main()

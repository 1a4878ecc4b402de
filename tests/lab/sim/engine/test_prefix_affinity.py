"""What it saves to send prompts where they were read before: the shipped scenario, a real trace."""

from pathlib import Path

import pytest
import yaml

from router.lab.sim.engine.run import simulate
from router.lab.sim.scenario.loading import load

ROOT = Path(__file__).resolve().parents[4]
SCENARIO = ROOT / "docs" / "scenarios" / "us-talks.yaml"
MOONCAKE = ROOT.parent / "shared/data/llm-traces/mooncake/conversation_trace.jsonl.gz"


def outcomes(folder, policy, **changes):
    """Of gateways that do not look at what prompts begin with, and of some that do."""
    found = []
    for looks in (False, True):
        scenario = {**yaml.safe_load(SCENARIO.read_text("utf-8")), **changes}
        for part in ("carbon", "rtt"):
            scenario[part]["file"] = str(SCENARIO.parent / scenario[part]["file"])
        # Whatever grids are expected to be: to learn it takes longer than all the rest.
        scenario["signal"]["kind"] = "persistence"
        scenario["gateways"] = {"prefixes": looks}
        scenario["endpoints"][0]["models"][0]["context_tokens"] = 131_072
        path = folder / f"{looks}.yaml"
        path.write_text(yaml.safe_dump(scenario), "utf-8")
        simulation = load(path, [policy]).simulation
        found.append(simulate(simulation, simulation.policies[0]))
    return found


def saved(before, after):
    """Shares of joules and grams, attributional and of the fleet."""
    return [
        1.0 - two / one
        for one, two in (
            (before.energy_j, after.energy_j),
            (before.gco2e, after.gco2e),
            (before.fleet.total_j, after.fleet.total_j),
            (before.fleet.total_g, after.fleet.total_g),
        )
    ]


@pytest.mark.parametrize("policy", ["carbon-first", "latency-first"])
def test_talks_go_on_where_they_were(tmp_path, policy):
    before, after = outcomes(tmp_path, policy, duration="30m")
    assert before.completed == after.completed == before.offered
    assert after.met > before.met - 0.01
    assert after.prompts.cached_share > before.prompts.cached_share + 0.2
    assert min(saved(before, after)) > 0.1
    # What is saved are prompts.
    prompts = before.prompt_energy_j - after.prompt_energy_j
    assert prompts > 0.4 * (before.energy_j - after.energy_j) > 0.0


def test_whoever_weighs_neither_time_nor_joules_goes_as_before(tmp_path):
    before, after = outcomes(tmp_path, "round-robin", duration="20m")
    assert after.prompts.cached_share == pytest.approx(before.prompts.cached_share, abs=0.02)
    assert max(map(abs, saved(before, after))) < 0.02


def test_a_real_trace_of_long_conversations(tmp_path):
    if not MOONCAKE.is_file():
        pytest.skip(f"NOT RUN: {MOONCAKE} is not there, so no real trace was simulated")
    # It states no budgets: whoever weighs no time would let requests queue.
    before, after = outcomes(
        tmp_path, "latency-first", duration="20m", warm_up="5m", workload={"file": str(MOONCAKE)}
    )
    assert before.offered == after.offered > 2000
    assert after.completed == before.completed == before.offered
    assert after.prompts.cached_share > before.prompts.cached_share + 0.08
    assert min(saved(before, after)) > 0.02
    assert after.ttft_ms.quantile(0.5) < before.ttft_ms.quantile(0.5)

"""The compiled engine against its pure-Python twin: the same requests, the same decisions."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.sim.engine import run as run_module
from router.lab.sim.engine.run import Learning, simulate
from router.model import Budget, Energy, Relax, Spread, Weights
from tests import factories as f
from tests.examples import examples
from tests.lab.sim import worlds as w
from tests.lab.sim.worlds import PACKED, busy

BOTH = (Relax.CARBON, Relax.POLICY_LATENCY)
POLICIES = {
    "carbon-first": {"near_tie": 0.01, "spread": Spread.PACK},
    "latency-first": {"weights": Weights(per_ttft_ms=1.0), "near_tie": 0.05},
    "least-loaded": {"weights": Weights(per_load=1.0)},
    "round-robin": {"weights": Weights(per_turn=1.0)},
    "balanced": {"weights": Weights(per_gco2e=1.0, per_e2e_ms=2e-5), "near_tie": 0.3},
}
limit = st.just(math.inf)


@st.composite
def policies(draw):
    name = draw(st.sampled_from(sorted(POLICIES)))
    return f.policy(
        name=name,
        energy=draw(st.sampled_from(Energy)),
        ladder=draw(st.sampled_from([(), BOTH, BOTH[1:]])),
        budget=draw(st.sampled_from([Budget(), Budget(e2e_ms=3000.0), Budget(ttft_ms=90.0)])),
        max_g_per_kwh=draw(limit | st.just(300.0)),
        max_gco2e=draw(limit | st.just(0.01)),
        stale_after_s=math.inf,
        **POLICIES[name],
    )


# Nothing that a run of round figures meets exactly: there the last bit would decide.
budgets = st.builds(
    Budget,
    ttft_ms=limit | st.sampled_from([60.0137, 100.0137, 400.0137]),
    tpot_ms=limit | st.sampled_from([12.00137, 20.00137, 30.00137]),
    e2e_ms=limit | st.sampled_from([500.0137, 2000.0137, 8000.0137]),
)
kinds = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from(
        [
            (w.SMALL, "m"),
            (w.OTHER, "m"),
            (w.PIECES, "m"),
            (w.IN_TURN, "m"),
            (w.IMAGE, "i"),
            (w.KEEPS, "m"),
            (w.KEEPS_LITTLE, "m"),
        ]
    ),
).map(lambda drawn: (drawn[0], *drawn[1]))


def prompt_of(talk, tokens):
    """Names of a prompt's blocks: a third of all talks begin alike, and turns of one as far as the
    shorter goes."""
    return [(-1 - talk % 3 if place < 2 else talk * 100 + place) for place in range(tokens // 32)]


@st.composite
def simulations(draw):
    always = [("a", w.SMALL, "m"), ("b", w.IMAGE, "i")]
    fleet = w.fleet(
        *draw(st.lists(kinds, max_size=4)), *always, max_in_flight=draw(st.sampled_from([3, 8, 20]))
    )
    # The turn of the hour lies amid the requests.
    at_s, rate, rows = 3595.0, draw(st.sampled_from([2.0, 10.0, 40.0])), []
    for _ in range(draw(st.integers(1, 150))):
        at_s += draw(st.floats(1e-6, 2.0)) / rate
        rows.append((
            at_s, draw(st.integers(0, 1)), draw(st.integers(0, 1)), draw(st.integers(0, 2)),
            draw(st.sampled_from([0, 0, 0, 1, 2])), draw(st.integers(1, 400)),
            out := draw(st.integers(1, 300)), draw(budgets),
            *([out + draw(st.integers(0, 300))] if draw(st.booleans()) else []),
        ))  # fmt: skip
    blocks = draw(
        st.none() | st.just([prompt_of(draw(st.integers(0, 30)), row[5]) for row in rows])
    )
    zones = sorted({region.grid_zone for region in fleet.regions.values()})
    values = {
        zone: draw(st.lists(st.floats(20.0, 700.0), min_size=3, max_size=3)) for zone in zones
    }
    return w.simulation(
        fleet, rows, values, duration_s=7200.0, models=("m", "i"), tenants=("", "x", "y"),
        residencies=(frozenset(), frozenset("a"), frozenset({"b", "nowhere"})),
        chunk=draw(st.sampled_from([1, 7, 1000])), seed=draw(st.integers(0, 5)),
        path_delay_ms=draw(st.sampled_from([{}, {}, {"a": 7.0}, {"a": 40.0, "b": 3.0}])),
        block_tokens=32, blocks=blocks,
    )  # fmt: skip


def agree(simulation, kept, outcome, replay):
    twin, prompts_j = replay.run(), replay.prompts_j
    rows = kept.rows()
    served = {name: column[rows["shed_reason"] == 0] for name, column in rows.items()}
    names = [endpoint.name for endpoint in simulation.fleet.endpoints]
    records = twin.records
    assert outcome.refused == twin.refused
    assert outcome.offered == twin.offered
    assert outcome.completed == len(records)
    assert [names[e] for e in served.get("endpoint", ())] == [r.endpoint for r in records]
    if records:
        for got, wanted in (
            (served["ttft_s"] * 1e3, [r.ttft_ms for r in records]),
            ((served["end_s"] - served["arrival_s"]) * 1e3, [r.e2e_ms for r in records]),
            (served["energy_j_attributional"], [r.energy_j for r in records]),
            (served["energy_j_marginal"], [r.marginal_energy_j for r in records]),
            (served["prompt_energy_j_attributional"], [prompts_j[r.serial] for r in records]),
            (served["gco2e_attributional"], [r.gco2e for r in records]),
            (served["output_tokens"], [r.output_tokens for r in records]),
            (served["budget_met"], [r.met for r in records]),
        ):
            np.testing.assert_allclose(got, wanted, rtol=1e-9)
        assert outcome.met == pytest.approx(twin.summary().met)
        assert outcome.gco2e == pytest.approx(twin.summary().gco2e, rel=1e-9)
        assert outcome.prompt_energy_j == pytest.approx(math.fsum(prompts_j.values()), rel=1e-9)
        tpots_ms = sorted(
            (r.e2e_ms - r.ttft_ms) / (r.output_tokens - 1) for r in records if r.output_tokens > 1
        )
        assert outcome.tpot_ms.counts.sum() == len(tpots_ms)
        for q in (0.5, 0.95) if tpots_ms else ():
            nearest = tpots_ms[math.ceil(q * len(tpots_ms)) - 1]
            assert outcome.tpot_ms.quantile(q) == pytest.approx(nearest, rel=0.002)
    fleet = outcome.fleet
    got = [fleet.busy_j, fleet.idle_j, fleet.busy_g, fleet.idle_g]
    wanted = [twin.fleet.busy_j, twin.fleet.idle_j, twin.fleet.busy_g, twin.fleet.idle_g]
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


@settings(max_examples=examples(20), deadline=None)
@given(simulations(), policies())
def test_decides_and_counts_as_the_python_twin_does(simulation, policy):
    kept = w.Kept()
    outcome = simulate(simulation, policy, kept, learning=w.AT_ONCE)
    agree(simulation, kept, outcome, w.twin(simulation, policy))


class Digesting(w.Twin):
    """The twin, learning as a gateway does: so many at once, and on every tick."""

    def __init__(self, every, tick_s, *rest):
        super().__init__(*rest)
        self.every, self.tick_s, self.due, self.kept = every, tick_s, tick_s, []

    def _learn(self, *lesson):
        self.kept.append(partial(super()._learn, *lesson))
        if len(self.kept) == self.every:
            self.digest()

    def _arrive(self, serial, timed, at_s):
        if at_s >= self.due:
            self.due = (math.floor(at_s / self.tick_s) + 1.0) * self.tick_s
            self.digest()
        super()._arrive(serial, timed, at_s)

    def digest(self):
        lessons, self.kept = self.kept, []
        for lesson in lessons:
            lesson()


@settings(max_examples=examples(6), deadline=None)
@given(simulations(), policies(), st.sampled_from([2, 5, 64]), st.sampled_from([0.1, 3.0]))
def test_digests_lessons_in_batches_and_on_ticks(simulation, policy, every, tick_s):
    kept = w.Kept()
    outcome = simulate(simulation, policy, kept, learning=Learning(every, tick_s))
    scenario = w.twin_scenario(simulation)
    twin = Digesting(every, tick_s, scenario, policy, w.Stream(simulation, policy))
    agree(simulation, kept, outcome, twin)


def figures(outcome):
    sums = [column.tobytes() for column in vars_of(outcome.by_region)]
    return (
        outcome.offered, outcome.completed, outcome.refused, outcome.failed, outcome.met,
        outcome.ttft_ms.counts.tobytes(), outcome.e2e_ms.counts.tobytes(), sums, outcome.fleet,
        outcome.tpot_ms.counts.tobytes(),
        outcome.hourly_requests.tobytes(), outcome.moved, outcome.peak_over_cap,
    )  # fmt: skip


def vars_of(sums):
    return [getattr(sums, name) for name in sums.__dataclass_fields__]


def test_neither_chunks_nor_rows_nor_room_change_a_figure(monkeypatch):
    """Same seed, same bytes."""
    whole = figures(simulate(busy(), PACKED))
    assert whole[2]["shed"] > 10
    assert figures(simulate(busy(), PACKED)) == whole
    assert figures(simulate(busy(chunk=37), PACKED)) == whole
    assert figures(simulate(busy(), PACKED, w.Kept())) == whole
    rows = w.Kept()
    simulate(busy(), PACKED, rows)
    monkeypatch.setattr(run_module, "_SLOTS", 1)
    monkeypatch.setattr(run_module, "_ROWS", 5)
    cramped = w.Kept()
    assert figures(simulate(busy(), PACKED, cramped)) == whole
    assert len(cramped.parts) > 100
    for name, column in rows.rows().items():
        assert column.tobytes() == cramped.rows()[name].tobytes(), name


@pytest.mark.parametrize(("delay_ms", "stays"), [(0.0, True), (12.0, True), (40.0, False)])
def test_a_delay_that_no_table_has_is_met_and_learned(delay_ms, stays):
    """b is 17 ms farther than a, whose path takes longer than routers were told."""
    fleet = w.fleet(("a", w.SMALL, "m"), ("b", w.SMALL, "m"))
    rows = [(2.0 * i, 0, 0, 0, 0, 60 + i * 37 % 400, 20, Budget()) for i in range(250)]
    nearest = f.policy(name="near", weights=Weights(per_ttft_ms=1.0), near_tie=0.0, quantile=0.5)
    kept = w.Kept()
    late = w.simulation(
        fleet, rows, {"grid-a": 1.0, "grid-b": 1.0}, path_delay_ms={"a": delay_ms}
    )  # fmt: skip
    simulate(late, nearest, kept)
    told = w.Kept()
    simulate(replace(late, path_delay_ms={}), nearest, told)
    found = kept.rows()
    first_ms = [rows["ttft_s"][0] * 1e3 for rows in (found, told.rows())]
    assert first_ms[0] == pytest.approx(first_ms[1] + delay_ms)
    assert found["region"][0] == 0
    assert (found["region"][-50:] == 0).all() == stays


def test_another_seed_draws_otherwise():
    tied = f.policy(name="tied", near_tie=3.0)
    one, other = (simulate(busy(seed=seed), tied).by_region.completed for seed in (1, 2))
    assert not np.array_equal(one, other)

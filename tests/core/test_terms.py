"""The terms of one candidate, and what excludes it: figures by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core import naive_terms
from tests.core.kernel_worlds import (
    ASKS,
    LLAMA,
    QUIET,
    alone_with,
    choose,
    crossing,
    evaluate,
    llamas,
    one_run,
    worlds,
)
from tests.examples import examples


def test_the_order_of_reasons():
    """Each constraint hides the ones behind it: peel them off one by one."""
    broken = {
        **LLAMA, **QUIET, "max_in_flight": 2, "context": 10.0, "batch": 2.0, "eligible": False,
        "own": 2.0, "awake": True, "prompts": 201.0, "prompts2": 201.0**2, "cached": 1e6,
    }  # fmt: skip
    region = {
        "rtt": (500.0,), "pue": 1.0, "ci": None, "label": 1, "premium": 0.0, "worth": 0.0,
        "candidates": [broken],
    }  # fmt: skip
    rule = {
        "weights": dict.fromkeys(("grams", "ttft", "e2e", "load", "turn"), 1.0),
        "near_tie": 0.0, "pack": False, "pack_until": 0.9, "max_grams": 0.0, "max_ci": 100.0,
        "scarcity": 0.0, "wake_energy": 1.0, "wake_premium": 0.0,
        "hours": 1,
    }  # fmt: skip
    ask = {
        "origin": 0, "n_in": 64.0, "n_out": 200.0, "n_out_q": 400.0, "network_j": 0.0,
        "ttft_budget": 1.0, "tpot_budget": 1.0, "e2e_budget": 1.0, "residency": 2,
        "slot_left_s": 3600.0, "now": 0.0,
    }  # fmt: skip
    world = {"regions": [region], "rule": rule}
    peel = (
        ("unhealthy", lambda: broken.update(eligible=True)),
        ("residency", lambda: ask.update(residency=3)),
        ("context", lambda: broken.update(context=264.0, turns=math.inf)),
        ("not_finite", lambda: broken.update(turns=0)),
        ("carbon_unknown", lambda: region.update(ci=[101.0])),
        ("carbon_budget", lambda: region.update(ci=[100.0])),
        ("carbon_budget", lambda: rule.update(max_grams=math.inf)),
        ("full", lambda: broken.update(batch=1.0, prompts=0.0, prompts2=0.0, pace_cap=6.5)),
        ("full", lambda: broken.update(pace_cap=6.5 + 4.0 * (1.0 / 200.0))),
        # It waits for half of an iteration, reads its prompt, and one iteration beside.
        ("ttft", lambda: ask.update(ttft_budget=500.0 + 3.25 + 8.0 + 4.0 + 6.5)),
        ("tpot", lambda: ask.update(tpot_budget=6.5)),
        ("e2e", lambda: ask.update(e2e_budget=521.75 + 400 * 6.5)),
    )
    for reason, mend in peel:
        assert evaluate(world, ask)[0]["reason"] == reason
        assert choose(world, ask, 0.0)[0] == -1
        mend()
    # Every limit is now met exactly, and a limit that is met is not broken.
    assert evaluate(world, ask)[0]["reason"] == "feasible"
    assert choose(world, ask, 0.0)[0] == 0


@pytest.mark.parametrize(
    ("slot_left_s", "run_s", "expected"),
    [
        (600.0, 300.0, 100.0),
        (600.0, 600.0, 100.0),
        (600.0, 1200.0, (600 * 100 + 600 * 200) / 1200),
        (600.0, 5000.0, (600 * 100 + 3600 * 200 + 800 * 400) / 5000),
        (600.0, 20000.0, (600 * 100 + 3600 * 200 + 15800 * 400) / 20000),  # the last one holds
        (0.0, 10.0, 200.0),
        (-600.0, 10.0, 200.0),  # columns older than the hour: the hour that it is now
        (-600.0, 3600.0, (3000 * 200 + 600 * 400) / 3600),
        (-3700.0, 10.0, 400.0),
        (-90000.0, 10.0, 400.0),
    ],
)
def test_intensity_over_the_run(slot_left_s, run_s, expected):
    world, ask = one_run(run_s, [100.0, 200.0, 400.0], slot_left_s)
    figures = evaluate(world, ask)[0]
    assert figures["ci"] == pytest.approx(expected, rel=1e-12)
    assert figures["grams"] == pytest.approx(3.6e6 / 3.6e6 * expected, rel=1e-12)


@settings(max_examples=examples(50), deadline=None)
@given(worlds(), ASKS, st.integers(0, 30), st.sampled_from([1.0, 40.0, 1e9, 1e308]))
def test_a_claim_of_load_never_makes_a_candidate_cheaper(world, ask, at, more):
    """Of more requests like those that are there."""
    rows = naive_terms.rows_of(world)
    candidate = rows[at % len(rows)][3]
    before = evaluate(world, ask)[at % len(rows)]
    if candidate["batch"] > 0.0:
        for name in ("prompts", "prompts2", "cached"):
            candidate[name] *= (candidate["batch"] + more) / candidate["batch"]
    candidate["batch"] += more
    after = evaluate(world, ask)[at % len(rows)]
    for name in ("ttft", "tpot", "e2e", "energy", "premium", "pace"):
        # But for the last bit, as sums are rounded.
        assert not after[name] < before[name] * (1.0 - 1e-12), name
    if before["reason"] != "feasible":
        assert after["reason"] != "feasible"


def test_a_lone_prompt_takes_an_iteration_and_its_own_time():
    figures, chosen = alone_with({"n_in": 256.0, "n_out": 8.0})
    assert chosen
    # 8 ms before, then one iteration of 6.25 + 0.125 ms and 256 * 0.0625 ms of prompt in it.
    assert figures["ttft"] == 8.0 + 6.375 + 16.0
    assert figures["tpot"] == 6.375
    assert figures["prompt_energy"] == 0.5 * 16.0
    assert figures["energy"] == 0.125 * 8.0 + 0.5 * 16.0
    # Spread over the eight iterations that it is there for.
    assert figures["pace"] == 6.375 + 16.0 / 8.0


def test_a_long_prompt_costs_more_a_token_and_each_piece_something():
    shape = {"prefill_per_piece": 1.5, "prefill_per_token2": 2.0**-10}
    figures, _ = alone_with({"n_in": 256.0, "n_out": 8.0}, **shape)
    # 256^2 / 2 pairs of tokens of 2^-10 ms: 32 ms.
    own = 1.5 + 16.0 + 32.0
    assert figures["ttft"] == 8.0 + 6.375 + own
    assert figures["prompt_energy"] == 0.5 * own


def test_cached_tokens_lengthen_every_iteration():
    """1,000 of those there, 256 of its own prompt and half of its answer."""
    figures, _ = alone_with(
        {"n_in": 256.0, "n_out": 8.0}, batch=1.0, cached=1000.0, tpot_cached=2.0**-5
    )
    assert figures["tpot"] == 6.5 + (1000.0 + 256.0 + 4.0) / 32.0


def test_who_comes_waits_for_the_iteration_that_runs():
    """Two sequences without prompts: iterations of 6.5 ms, half of one is left on the mean."""
    figures, _ = alone_with({"n_out": 8.0}, batch=1.0)
    assert figures["ttft"] == 8.0 + 6.5 + 6.5 / 2.0
    # Half a request there is there half of the time.
    assert alone_with({"n_out": 8.0}, batch=0.5)[0]["ttft"] == pytest.approx(
        8.0 + 6.4375 + 0.5 * 6.4375 / 2.0
    )


def test_who_comes_waits_for_the_prompts_of_others():
    """One prompt of 65 ms every 100 iterations of 6.5 ms, so 0.65 of each: an iteration with it is
    met more often than one in a hundred, and its prompt is queued before the newcomer's."""
    ask = {"n_out": 8.0}
    figures, _ = alone_with(ask, batch=1.0, prompts=0.65, prompts2=65.0**2 / 100.0)
    pace = 6.5 + 0.65
    longer = pace + 42.25 * pace / (6.5 * (pace + 0.65))
    assert figures["ttft"] == pytest.approx(8.0 + 6.5 + (0.5 + 0.65 / pace) * longer)
    assert figures["tpot"] == pytest.approx(pace)


def test_who_comes_waits_for_the_prompts_that_this_gateway_sent_before():
    """All of those there are its own: half an iteration of 6.5 ms, and 40 ms that are not read."""
    there = {"batch": 1.0, "own": 1.0, "backlog_ends": 8.040, "backlog_most": 1000.0}
    figures, _ = alone_with({"n_out": 8.0, "now": 8.0}, **there)
    assert figures["ttft"] == pytest.approx(8.0 + 6.5 + 6.5 / 2.0 + 40.0)
    # While the iteration runs others come, as many as usual: a tenth of the time is theirs.
    prompts = 6.5 / 9.0
    figures, _ = alone_with({"n_out": 8.0, "now": 8.0}, **there, prompts=prompts)
    assert figures["ttft"] == pytest.approx(8.0 + 6.5 + 6.5 / 2.0 * 1.1 + 40.0)
    # Later there is nothing left of it, and a clock that is set back makes it no more than it was.
    for now, left in ((9.0, 0.0), (-1e6, 1000.0)):
        figures, _ = alone_with({"n_out": 8.0, "now": now}, **there)
        assert figures["ttft"] == pytest.approx(8.0 + 6.5 + 6.5 / 2.0 + left)


def test_a_burst_goes_elsewhere_before_its_prompts_queue_up():
    ask = {"n_out": 8.0, "now": 8.0, "ttft_budget": 500.0}
    there = {"batch": 3.0, "own": 3.0, "backlog_most": 1e6}
    assert alone_with(ask, **there, backlog_ends=8.4)[0]["reason"] == "feasible"
    assert alone_with(ask, **there, backlog_ends=8.5)[0]["reason"] == "ttft"


# 256 tokens of prompt are 16 ms; with two sequences an iteration lasts 6.5 ms. Those there bear 13:
# prompts may take half of the time, so one is paid for after 32 ms, and 32 iterations are 416 ms.
TURN = {"batch": 1.0, "own": 1.0, "pace_cap": 13.0, "backlog_most": 1e6}


@pytest.mark.parametrize(("until", "reason"), [(8.375, "feasible"), (8.3875, "full")])
def test_prompts_come_no_faster_than_answers_of_32_tokens_bear(until, reason):
    asked = {"n_in": 256.0, "n_out": 64.0, "now": 8.0}
    figures, chosen = alone_with(asked, **TURN, paced_until=until)
    # It is alone, so where nobody's turn it is, it is its own; another one would be preferred.
    assert (figures["reason"], chosen) == ("feasible", True)
    assert beside_an_idle_one(asked, **TURN, paced_until=until) == reason


def beside_an_idle_one(asked, **changes):
    """What stands in the way of the one, where there is another."""
    world, ask = llamas(0, 0, **changes)
    world["regions"][0]["candidates"][1].update(QUIET)
    return evaluate(world, {**ask, **asked})[0]["reason"]


def test_what_comes_meanwhile_leaves_less_room_for_a_burst():
    """Prompts take 3.25 ms of an iteration, a quarter of what is borne: twice that is paid for."""
    ask = {"n_in": 256.0, "n_out": 64.0, "now": 8.0}
    for until, reason in ((8.175, "feasible"), (8.177, "full")):
        assert beside_an_idle_one(ask, **TURN, prompts=3.25, paced_until=until) == reason


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"paced_until": 8.0}, {}),  # nothing is ahead
        ({"backlog_most": 0.0}, {}),  # a clock was set back: nobody is there whose prompt it were
        ({}, {"n_in": 0.0}),  # no prompt
        ({"pace_cap": math.inf}, {}),  # nobody minds
    ],
)
def test_turns_are_nobodys_obstacle_where_no_prompt_waits_for_another(changes, asked):
    ask = {"n_in": 256.0, "n_out": 64.0, "now": 8.0, **asked}
    assert beside_an_idle_one(ask, **{**TURN, "paced_until": 1e9, **changes}) == "feasible"


def test_an_iteration_reads_no_more_than_a_chunk():
    figures, _ = alone_with({"n_out": 8.0}, batch=1.0, prompts=40.0, prompts2=400.0, chunk=10.0)
    assert figures["tpot"] == 6.5 + 10.0


@pytest.mark.parametrize(("batch", "prompt_ms", "tokens"), [(10, 16.0, 32.0), (60, 64.0, 256.0)])
def test_requests_of_one_kind_meet_the_fixed_point_of_their_own_rate(batch, prompt_ms, tokens):
    """SCIENCE, 1b: TPOT = D / (1 - c_L r), where b requests of n tokens make r = b / (n TPOT)."""
    prompts = batch * prompt_ms / tokens
    figures, _ = alone_with({"n_out": tokens}, batch=float(batch), prompts=prompts)
    rate = batch / (tokens * figures["tpot"])
    decode = 6.25 + 0.125 * (batch + 1)
    assert figures["tpot"] == pytest.approx(decode / (1.0 - prompt_ms * rate))


def test_prompts_alone_fill_nothing():
    """Nobody minds: short answers to long prompts, one after the other, or a slow replica alone."""
    for batch, prompts, slope in ((0.0, 0.0, 33.0), (1.0, 700.0, 0.125), (40.0, 9e4, 0.125)):
        figures, chosen = alone_with(
            {"n_out": 1.0}, batch=batch, prompts=prompts, tpot_base=1.0, tpot_slope=slope
        )
        assert (figures["reason"], chosen) == ("feasible", True)


@pytest.mark.parametrize(("n_in", "n_out"), [(8192.0, 1.0), (1e6, 1.0), (1e6, 0.0)])
def test_a_prompt_that_is_long_for_its_answer_is_welcome_where_there_is_time(n_in, n_out):
    """To classify, to rate: it takes long and nobody is overrun by it."""
    for batch, prompts in ((0.0, 0.0), (8.0, 100.0)):
        figures, chosen = alone_with({"n_in": n_in, "n_out": n_out}, batch=batch, prompts=prompts)
        assert (figures["reason"], chosen) == ("feasible", True)
        assert figures["pace"] > 208.34


def test_a_heavy_prompt_stays_away_where_it_would_break_the_budget_of_one_that_is_there():
    ask = {"n_in": 256.0, "n_out": 8.0}
    # 6.5 ms of two sequences and 16 / 8 of its prompt.
    for cap, reason in ((8.375, "full"), (8.5, "feasible")):
        assert alone_with(ask, batch=1.0, pace_cap=cap)[0]["reason"] == reason
    # The same prompt over a longer answer fits.
    longer = {**ask, "n_out": 16.0}
    assert alone_with(longer, batch=1.0, pace_cap=8.375)[0]["reason"] == "feasible"


@pytest.mark.parametrize("n_out", [0.0, 1e-300, 0.25, 1.0])
def test_less_than_one_token_is_there_for_one_iteration(n_out):
    assert alone_with({"n_in": 256.0, "n_out": n_out})[0]["pace"] == 6.375 + 16.0


def test_beyond_the_batch_those_who_wait_slow_nobody_down():
    """Seven there, and one: of eight four run, with half of the prompts and of the cached."""
    figures, _ = alone_with(
        {"n_in": 256.0, "n_out": 8.0}, batch=7.0, max_batch=4, prompts=4.0, cached=1024.0,
        tpot_cached=2.0**-8,
    )  # fmt: skip
    # Once it runs, its own prompt and answer are there as a whole.
    decode = 6.25 + 4 * 0.125 + (1024.0 / 2.0 + 256.0 + 4.0) / 256.0
    assert figures["tpot"] == decode + 2.0
    assert figures["pace"] == decode + 2.0 + 16.0 / 8.0
    prefill = 8.0 + decode + 16.0 + (0.5 + 2.0 / (decode + 2.0)) * (decode + 2.0)
    queue = 4.0 * (prefill + 8.0 * (decode + 2.0)) / 4.0
    assert figures["ttft"] == pytest.approx(prefill + queue)


def test_a_candidate_without_finite_figures_is_left_out():
    world, ask = crossing([100.0, 300.0], 0.0)
    world["regions"][0]["candidates"][0]["j_per_request"] = 1e308
    world["regions"][0]["pue"] = 1e10
    assert choose(world, ask, 0.0)[0] == 1
    assert evaluate(world, ask)[0]["reason"] == "not_finite"


def test_a_run_without_an_end_is_left_out_though_nothing_weighs_it():
    world, ask = crossing([100.0, 300.0], 0.0)
    world["rule"]["weights"] = dict.fromkeys(world["rule"]["weights"], 0.0)
    ask["n_out"] = 1e308
    for region in world["regions"]:
        region["candidates"][0]["tpot_base"] = 10.0
    assert choose(world, ask, 0.0)[0] == -1
    assert {one["reason"] for one in evaluate(world, ask)} == {"not_finite"}

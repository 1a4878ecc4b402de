import math
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core import lengths
from router.core.lengths import LengthModel
from router.model import UNLIMITED, LengthPrior

PRIOR = LengthPrior(input_tokens=100.0, output_tokens=200.0, output_tokens_p95=500.0)
Z95 = 1.6448536


def model(quantile=0.95, **priors):
    return LengthModel(priors or {"llama": PRIOR}, quantile)


def expect(lengths, tenant="", input_tokens=math.nan, max_tokens=UNLIMITED, name="llama"):
    return lengths.expect(name, tenant, input_tokens, max_tokens)


def test_before_any_request_the_prior_speaks():
    expected = expect(model())
    assert (expected.input_tokens, expected.output_tokens) == (100.0, 200.0)
    assert expected.output_tokens_quantile == pytest.approx(500.0)


def test_a_prior_without_spread_or_with_too_much():
    flat = model(llama=LengthPrior(1.0, 1.0, 1.0))
    assert expect(flat) == (1.0, 1.0, 1.0)
    wild = expect(model(llama=LengthPrior(1.0, 10.0, 1e6)))
    # No log-normal has its 95 % quantile beyond 3.87 times its mean.
    assert wild.output_tokens_quantile == pytest.approx(10.0 * math.exp(Z95**2 / 2))


@pytest.mark.parametrize(("mu", "sigma"), [(5.0, 0.5), (6.0, 1.0), (3.0, 0.2)])
@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_mean_and_quantile_converge_on_log_normal_lengths(mu, sigma, quantile):
    rng, learned = random.Random(11), model(quantile)
    sums = [0.0, 0.0]
    z = {0.5: 0.0, 0.95: Z95}[quantile]
    for seen in range(12_000):
        learned.observe("llama", "", math.nan, max(1.0, rng.lognormvariate(mu, sigma)))
        if seen >= 2_000:
            one = expect(learned)
            sums[0] += one.output_tokens
            sums[1] += math.log(one.output_tokens_quantile)
    # With a memory of 50 requests each estimate is noisy; their averages must be right.
    assert sums[0] / 10_000 == pytest.approx(math.exp(mu + sigma**2 / 2), rel=0.05)
    assert sums[1] / 10_000 == pytest.approx(mu + z * sigma, abs=0.05)


def test_two_clusters_of_lengths_do_not_add_up_to_answers_nobody_gave():
    # Half of the answers are a word, half fill a page: as one log-normal, 5 % are over 9,000.
    rng, learned = random.Random(5), model()
    seen = []
    for number in range(6_000):
        learned.observe("llama", "", math.nan, 5.0 if rng.random() < 0.5 else 500.0)
        if number >= 2_000:
            seen.append(expect(learned).output_tokens_quantile)
    assert all(quantile <= 500.0 * (1.0 + 1e-9) for quantile in seen)
    assert sum(seen) / len(seen) > 480.0


def test_one_very_long_answer_is_forgotten():
    learned = model()
    for tokens in [5.0, 500.0] * 200 + [50_000.0]:
        learned.observe("llama", "", math.nan, tokens)
    shocked = expect(learned).output_tokens_quantile
    for tokens in [5.0, 500.0] * 500:
        learned.observe("llama", "", math.nan, tokens)
    assert shocked > 2_000.0
    assert expect(learned).output_tokens_quantile < 520.0


def test_the_requests_own_figures_win():
    learned = model()
    for _ in range(50):
        learned.observe("llama", "", 900.0, 400.0)
    assert expect(learned).input_tokens > 500.0
    assert expect(learned, input_tokens=7.0).input_tokens == 7.0


@given(st.floats(1.0, 1e6), st.lists(st.floats(1.0, 1e6), max_size=20))
def test_max_tokens_bounds_both_figures(max_tokens, seen):
    learned = model()
    for tokens in seen:
        learned.observe("llama", "t", math.nan, tokens)
    free, bound = expect(learned, "t"), expect(learned, "t", max_tokens=max_tokens)
    assert bound.output_tokens == min(free.output_tokens, max_tokens)
    assert bound.output_tokens_quantile == min(free.output_tokens_quantile, max_tokens)


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=30))
def test_no_report_breaks_the_expectation(reports):
    learned = model()
    for _, output in reports:
        learned.observe("llama", "", math.nan, output)
    for figure in expect(learned):
        assert 0.0 < figure < math.inf


def test_tenants_learn_apart_and_a_new_one_starts_from_what_new_ones_had():
    learned = model()
    for _ in range(300):
        learned.observe("llama", "short", math.nan, 20.0)
        learned.observe("llama", "long", math.nan, 2000.0)
    assert expect(learned, "short").output_tokens == pytest.approx(20.0, rel=0.05)
    assert expect(learned, "long").output_tokens == pytest.approx(2000.0, rel=0.05)
    shared = expect(learned, "new").output_tokens
    # Its first request moves it from there, not from the prior.
    learned.observe("llama", "new", math.nan, shared)
    assert expect(learned, "new").output_tokens == pytest.approx(shared, rel=0.01)


def test_many_tenants_of_a_few_requests_teach_the_next_one():
    learned = model()
    for number in range(100):
        learned.observe("llama", f"t{number}", 700.0, 900.0)
        learned.observe("llama", f"t{number}", 700.0, 900.0)
    assert expect(learned, "new").output_tokens == pytest.approx(900.0, rel=0.1)
    assert expect(learned, "new").input_tokens == pytest.approx(700.0, rel=0.1)


@pytest.mark.parametrize("times", [60, 600])
@pytest.mark.parametrize("anonymous", [False, True])
def test_one_tenant_moves_the_others_expectations_little(times, anonymous):
    learned = model()
    for _ in range(30):
        learned.observe("llama", "alice", 100.0, 200.0)
    before, new = expect(learned, "alice"), expect(learned, "bob")
    for _ in range(times):
        learned.observe("llama", "" if anonymous else "mallory", 8182.0, 8192.0)
    assert expect(learned, "alice") == before
    assert expect(learned, "bob").input_tokens < 1.3 * new.input_tokens
    assert expect(learned, "bob").output_tokens < 1.3 * new.output_tokens


@pytest.mark.parametrize("tokens", [1e5, 1e18, 1e308])
def test_one_answer_moves_the_mean_little_whatever_a_server_says_of_it(tokens):
    learned = model()
    for _ in range(100):
        learned.observe("llama", "t", math.nan, 200.0)
    learned.observe("llama", "t", math.nan, tokens)
    assert expect(learned, "t").output_tokens < 1.6 * 200.0


def test_no_answer_is_longer_than_its_request_allows():
    learned = model()
    for _ in range(400):
        learned.observe("llama", "t", math.nan, 1e308, at_most=64.0)
    assert expect(learned, "t").output_tokens == pytest.approx(64.0, rel=0.01)
    for _ in range(4000):
        learned.observe("llama", "u", math.nan, 1e308)
    assert expect(learned, "u").output_tokens <= 100.0 * PRIOR.output_tokens


def test_doubts_lead_back_to_the_prior_and_never_beyond():
    learned = model()
    for number in range(4000):
        learned.observe("llama", f"t{number % 50}", 1e8, 1e308)
    assert expect(learned, "t7").output_tokens > 10.0 * PRIOR.output_tokens
    for _ in range(400):
        learned.doubt("llama", "t7")
    for tenant in ("t7", "new"):
        for figure, prior in zip(expect(learned, tenant), expect(model()), strict=True):
            assert figure <= 1.05 * prior
    short = model()
    short.observe("llama", "t", 1.0, 1.0)
    brief = expect(short, "t").output_tokens
    short.doubt("llama", "t")
    assert expect(short, "t").output_tokens == brief


def test_expecting_changes_nothing():
    learned = model()
    learned.observe("llama", "t", 5.0, 5.0)
    before = list(learned._known)
    for number in range(100):
        expect(learned, f"t{number}")
        learned.prior("llama", math.nan, math.inf)
    assert list(learned._known) == before


def test_models_do_not_mix():
    learned = model(llama=PRIOR, other=PRIOR)
    learned.observe("llama", "t", 5.0, 5.0)
    assert expect(learned, name="other") == expect(model())


def test_tenants_are_bounded(monkeypatch):
    monkeypatch.setattr(lengths, "_MAX_TENANTS", 50)
    learned = model()
    for number in range(500):
        learned.observe("llama", f"t{number}", math.nan, 1000.0)
    one = sys.getsizeof(learned._known)
    for number in range(500, 5000):
        learned.observe("llama", f"t{number}", math.nan, 1000.0)
    assert len(learned._known) == 50
    assert sys.getsizeof(learned._known) == one
    # Tenants that were forgotten are new ones.
    assert expect(learned, "t0") == expect(learned, "new")
    assert expect(learned, "t0").output_tokens == pytest.approx(1000.0, rel=0.01)


def test_a_reload_keeps_what_was_learned_and_drops_models_that_went():
    learned = model(llama=PRIOR, gone=PRIOR)
    for _ in range(300):
        learned.observe("llama", "t", math.nan, 50.0)
        learned.observe("gone", "t", math.nan, 50.0)
    learned.adopt({"llama": LengthPrior(1.0, 9.0, 9.0), "fresh": LengthPrior(1.0, 9.0, 9.0)}, 0.5)
    assert expect(learned, "t").output_tokens == pytest.approx(50.0, rel=0.05)
    assert expect(learned, "t").output_tokens_quantile == pytest.approx(50.0, rel=0.05)
    assert expect(learned, name="fresh") == pytest.approx((1.0, 9.0, 9.0))
    # A request that was in flight when its model went still ends, and teaches nobody.
    learned.observe("gone", "t", math.nan, 50.0)
    assert all(key[0] != "gone" for key in learned._known)

"""What servers have cached of every prompt: the least of what they reported, within bounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.layout import Layout
from router.core.templates import LEAST_REPORTS, MOST_TEMPLATE_TOKENS, CachedTemplates
from tests.factories import endpoint, fleet, served

FLEET = fleet(
    endpoint("a", "east", served()), endpoint("b", "west", served(), served(name="other"))
)


def told(*reports, endpoint_name="a", model="llama"):
    templates = CachedTemplates()
    for tokens in reports:
        templates.observe(endpoint_name, model, "", tokens)
    return templates


@given(st.lists(st.floats(0.0, 1000.0), max_size=30))
def test_it_is_the_least_of_the_last_reports_and_nothing_before_there_are_so_many(reports):
    templates = told(*reports)
    last = reports[-LEAST_REPORTS:]
    expected = min(last) if len(last) == LEAST_REPORTS else 0.0
    assert templates.tokens("a", "llama", "") == min(expected, MOST_TEMPLATE_TOKENS)
    assert templates.of_model("llama") == templates.tokens("a", "llama", "")


def test_one_prompt_that_was_read_whole_is_enough_to_expect_nothing():
    templates = told(*[24.0] * 20)
    templates.observe("a", "llama", "", 0.0)
    assert templates.tokens("a", "llama", "") == templates.of_model("llama") == 0.0
    for _ in range(LEAST_REPORTS):
        templates.observe("a", "llama", "", 24.0)
    assert templates.tokens("a", "llama", "") == 24.0


@pytest.mark.parametrize("tokens", [math.nan, -1.0])
def test_what_is_no_count_says_nothing(tokens):
    assert told(*[24.0] * LEAST_REPORTS, tokens).tokens("a", "llama", "") == 24.0


def test_each_candidate_has_its_own_and_a_model_the_least_that_is_known():
    candidates = Layout(FLEET).find("llama", "")
    assert CachedTemplates().of(candidates) is None
    templates = told(*[24.0] * LEAST_REPORTS, endpoint_name="b")
    assert templates.of(candidates).tolist() == [0.0, 24.0]
    assert templates.of_model("llama") == 24.0
    for _ in range(LEAST_REPORTS):
        templates.observe("a", "llama", "", 16.0)
    assert templates.of(candidates).tolist() == [16.0, 24.0]
    assert templates.of_model("llama") == 16.0
    assert templates.of(Layout(FLEET).find("other", "")) is None


def test_who_is_gone_is_forgotten():
    templates = told(*[24.0] * LEAST_REPORTS)
    templates.keep({"a", "b"})
    assert templates.tokens("a", "llama", "") == 24.0
    templates.keep({"b"})
    assert templates.tokens("a", "llama", "") == templates.of_model("llama") == 0.0
    templates.observe("a", "llama", "", 24.0)
    assert templates.tokens("a", "llama", "") == 0.0


def test_of_three_that_report_none_is_believed_to_have_more_than_another_says():
    templates = CachedTemplates()
    for name, tokens in (("a", 24.0), ("b", 30.0), ("liar", 250.0)):
        for _ in range(LEAST_REPORTS):
            templates.observe(name, "llama", "", tokens)
    told = [templates.tokens(name, "llama", "") for name in ("a", "b", "liar")]
    assert told == [24.0, 30.0, 30.0]
    for _ in range(LEAST_REPORTS):
        templates.observe("b", "llama", "", 0.0)
        templates.observe("a", "llama", "", 0.0)
    assert templates.tokens("liar", "llama", "") == templates.of_model("llama") == 0.0

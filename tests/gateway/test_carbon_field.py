"""One field that says the least that a caller needs."""

import math

from router.core.reports import Doubt
from router.director.dispatcher import STATE_STORE_FAILING
from router.gateway.carbon_field import carbon_field
from router.model import BudgetStanding, Relax
from tests.factories import endpoint
from tests.gateway.support import decision, receipt


def test_an_answer_says_what_it_took_and_a_beginning_where_it_runs():
    begun = (
        'id="gw-1", region="west", endpoint="west-0", g_per_kwh=120.0, kind=measured, basis=average'
    )
    assert carbon_field(decision(), "gw-1") == begun
    took = ", gco2e=0.008600000, energy_j=215.500, energy_kind=emulated"
    assert carbon_field(decision(), "gw-1", receipt()) == begun + took


def test_what_is_not_known_has_no_key():
    dark = receipt(decision=decision(intensity=None), gco2e=math.nan)
    field = carbon_field(dark.decision, "gw-1", dark)
    assert not any(key in field for key in ("gco2e", "energy", "g_per_kwh", "kind", "basis"))


def test_flags_are_told_before_an_answer_begins_too():
    told = decision(flags=("carbon_stale", STATE_STORE_FAILING))
    assert carbon_field(told, "gw-1").endswith(", carbon_stale, state_store_failing")
    assert "state_store" not in carbon_field(decision(), "gw-1")


def test_what_was_dropped_and_asked_again_stands_in_it():
    told = receipt(decision=decision(relaxed=tuple(Relax)[:2]), attempts=3)
    field = carbon_field(told.decision, "gw-1", told)
    assert f'attempts=3, relaxed="{" ".join(tuple(Relax)[:2])}"' in field


def test_the_field_is_a_dictionary_whatever_names_hold():
    odd = decision(endpoint=endpoint('we"st\\é'))
    assert r'endpoint="we\"st\\?"' in carbon_field(odd, "gw-1")
    assert carbon_field(odd, "gw-1").isascii()


def test_what_is_left_of_a_budget_stands_in_the_field():
    told = receipt(carbon_budget=BudgetStanding("tenant", 0.70049))
    assert carbon_field(told.decision, "gw-1", told).endswith(", budget_left=0.700")
    assert "budget_left" not in carbon_field(told.decision, "gw-1", receipt())


def test_figures_of_a_server_that_were_not_believed_are_named():
    told = receipt(doubts=(Doubt.ENERGY_LOW, Doubt.TOKENS_HIGH))
    names = "report_energy_too_low report_tokens_too_high"
    assert f', ignored="{names}"' in carbon_field(told.decision, "gw-1", told)

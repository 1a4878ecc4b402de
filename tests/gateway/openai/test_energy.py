"""Receipts in the terms of HTTP."""

import math

import pytest

from router.core.reports import Doubt
from router.director.dispatcher import STATE_STORE_FAILING
from router.gateway.openai.energy import usage_energy
from router.gateway.openai.receipt_documents import receipt_document
from router.model import BudgetStanding, Provenance, TokensKind
from tests.gateway.support import decision, receipt


def test_units_and_grams_hang_together():
    told = usage_energy(receipt())
    assert told["joules"] == 258.6
    assert told["wh"] == pytest.approx(258.6 / 3600.0, rel=1e-5)
    assert told["wh"] / 1e3 * told["grid_carbon_intensity"] == pytest.approx(0.0086, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "says"), [(Provenance.MEASURED, "reported"), (Provenance.ESTIMATED, "profile")]
)
def test_it_is_said_how_joules_are_known(kind, says):
    told = usage_energy(receipt(energy_kind=kind, tokens_kind=TokensKind.COUNTED))
    assert told["source"] == kind and says in told["method"]


def test_the_range_is_of_the_joules_that_are_told():
    told = usage_energy(receipt(energy_low_j=107.75, energy_high_j=431.0))
    assert told["range"]["joules"] == pytest.approx([258.6 / 2.0, 258.6 * 2.0], rel=1e-5)


def test_what_is_left_of_a_budget_is_in_the_document():
    told = receipt(carbon_budget=BudgetStanding("tenant", 0.70049))
    assert receipt_document(told)["budget"] == "name=tenant; left=0.7005"


def test_what_is_not_known_has_no_key():
    dark = receipt(decision=decision(intensity=None), gco2e=math.nan)
    told = usage_energy(dark)
    assert not {"g_co2e", "grid_carbon_intensity", "kind", "basis", "range"} & told.keys()


def test_flags_of_the_decision_are_in_the_document():
    told = decision(flags=(STATE_STORE_FAILING,))
    assert receipt_document(receipt(decision=told))["flags"] == "state_store_failing"


def test_what_a_server_reported_and_was_not_believed_is_said_in_every_form():
    told = receipt(doubts=(Doubt.ENERGY_LOW, Doubt.TOKENS_HIGH))
    names = ["report_energy_too_low", "report_tokens_too_high"]
    assert usage_energy(told)["ignored"] == names
    assert receipt_document(told)["flags"] == ",".join(names)
    assert "ignored" not in usage_energy(receipt())

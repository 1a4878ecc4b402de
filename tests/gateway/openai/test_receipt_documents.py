"""Receipts as documents, from memory and from rows of the ledger."""

import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from router.gateway.openai.receipt_documents import ledger_document, receipt_document
from router.gateway.receipts import trailers
from router.ledger.asking.settled import SettledFigures
from router.ledger.columns import RECEIPT_COLUMNS
from router.model import ChosenVariant, Kind, OtherVariant
from tests.gateway.support import receipt

ENDED = datetime(2026, 11, 30, 7, 0, 1, 500, UTC)


def row(**changes):
    told = {
        "decision_id": "gw-1", "outcome": "answered", "model": "llama", "attempt": 2,
        "finished_at": ENDED, "intensity_observed_at": ENDED - timedelta(seconds=30),
        "energy_j": 100.0, "pue": 1.25, "network_j": 0.5, "g_per_kwh": 36.0, "gco2e": 0.00125,
        "energy_low_j": 80.0, "energy_high_j": 1.2e8, "run_s": 0.0736367329955101,
        "cached_tokens": 0, "flags": "carbon_stale;budget_missed", "tenant": "ab12",
    }  # fmt: skip
    return {**{column.name: None for column in RECEIPT_COLUMNS}, **told, **changes}


def kept(settled=None, unread=False, lost=0.0, **changes):
    return SimpleNamespace(
        row=row(**changes), lost_gco2e=lost, settled=settled, settled_unread=unread
    )


def test_it_has_every_key_of_a_receipt():
    told = receipt_document(receipt())
    keys = {key.removeprefix("x-carbon-").replace("-", "_") for key, _ in trailers(receipt())}
    assert keys | {"model", "finished_at"} == told.keys()
    assert isinstance(told["energy_j"], float) and isinstance(told["decision_id"], str)
    # An interval is two figures, not one.
    assert told["g_per_kwh_interval"] == dict(trailers(receipt()))["x-carbon-g-per-kwh-interval"]


def test_it_says_what_the_grams_are_made_of():
    told = receipt_document(receipt(pue=1.2, network_j=0.25, g_per_kwh=119.7))
    assert (told["pue"], told["network_j"], told["mean_g_per_kwh"]) == (1.2, 0.25, 119.7)


def test_small_grams_are_numbers_and_names_that_look_like_numbers_are_not():
    told = receipt_document(receipt(gco2e=9.5e-5, region="1e3", decision_id="4851720e-1"))
    assert told["gco2e"] == pytest.approx(9.5e-5)
    assert (told["region"], told["decision_id"]) == ("1e3", "4851720e-1")


@pytest.mark.parametrize("when", [math.nan, math.inf, -1.0, 1e300])
def test_a_time_that_is_none_has_no_key(when):
    assert "finished_at" not in receipt_document(receipt(finished_at=when))


def test_a_row_says_that_it_is_of_the_ledger_and_what_it_does_not_know_has_no_key():
    told = ledger_document(kept())
    assert told["kept_in"] == "ledger" and told["attempts"] == 2
    assert told["facility_energy_j"] == 125.5 and told["mean_g_per_kwh"] == 36.0
    assert told["energy_j_interval"] == "80-1.2e+08" and told["run_s"] == 0.07363673
    assert told["finished_at"] == "2026-11-30T07:00:01.000500Z" and told["intensity_age_s"] == 30
    assert told["flags"] == "carbon_stale,budget_missed"
    assert not {"tenant", "cached_tokens", "settled", "lost_attempts_gco2e", "region"} & told.keys()
    assert None not in told.values()


def test_what_it_was_settled_at_stands_beside():
    price = SettledFigures(40.0, 30.0, 50.0, 0.0014, Kind.MEASURED, "operator", 2, 1.8e9)
    told = ledger_document(kept(price, lost=0.001))
    assert told["gco2e"] == 0.00125 and told["lost_attempts_gco2e"] == 0.001
    assert told["settled"] == {
        "g_per_kwh": 40.0, "g_per_kwh_interval": "30-50", "kind": "measured", "source": "operator",
        "revision": 2, "settled_at": "2027-01-15T08:00:00.000000Z", "gco2e": 0.0014,
    }  # fmt: skip
    assert ledger_document(kept(unread=True))["settled_unread"] is True


def test_a_row_that_waited_tells_what_that_saved() -> None:
    waited = {"waited_s": 60.0, "at_once_region": "here", "at_once_gco2e": 0.5, "gco2e": 0.25}
    told = ledger_document(kept(**waited))
    assert (told["waited_s"], told["at_once_region"]) == (60.0, "here")
    assert told["saved_by_waiting_gco2e"] == 0.25
    assert "waited_s" not in ledger_document(kept())


def test_of_an_alias_a_row_tells_what_the_answer_told():
    others = (OtherVariant("large", 0.66, None), OtherVariant("huge", 0.8, None))
    chosen = ChosenVariant("chat", "small", 0.48, 0.4, others)
    answer = receipt()
    answer = answer._replace(
        decision=answer.decision._replace(variant=chosen),
        predicted=answer.predicted._replace(variants_gco2e=(0.0123, math.nan)),
    )
    cells = "large quality=0.66 gco2e=0.0123;huge quality=0.8"
    kept_row = kept(
        model="chat", variant="small", quality=0.48, quality_floor=0.4, other_variants=cells
    )
    was, told = receipt_document(answer), ledger_document(kept_row)
    for key in ("alias", "variant", "quality", "quality_floor", "other_variants"):
        assert told[key] == was[key]

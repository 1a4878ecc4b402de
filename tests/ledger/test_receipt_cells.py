"""Rows of real receipts: made by the director, written, and read again."""

import math

import pytest

from router.ledger.columns import G_QUANTUM, J_QUANTUM
from router.ledger.receipt_cells import ended_cells, in_steps, turned_away_cells
from router.ledger.tables import RECEIPTS, arrow_table
from router.model import Budget, RowOutcome, RunAtOnce
from router.units import J_PER_KWH
from tests.director.support import ANSWER, Room, Says, fails, report
from tests.factories import request


def plain(name):
    return name


def row(cells):
    return arrow_table(RECEIPTS, "gw", 1, [cells]).to_pylist()[0]


async def receipts(script=None, **changes):
    made = Room({**dict.fromkeys("abc", ANSWER), **(script or {})})
    await made.infer(**changes)
    return made.ledger.rows


async def test_whoever_reads_a_row_reckons_its_grams_anew_to_the_last_bit() -> None:
    ((outcome, reason, receipt),) = await receipts(payload_bytes=123_456)
    kept = row(ended_cells(receipt, outcome, reason, plain))
    facility_j = kept["energy_j"] * kept["pue"] + kept["network_j"]
    again = facility_j / J_PER_KWH * kept["g_per_kwh"]
    assert kept["gco2e"] == in_steps(again, 1 / G_QUANTUM)
    assert kept["gco2e"] == pytest.approx(receipt.gco2e, abs=G_QUANTUM)
    assert kept["energy_j"] == pytest.approx(receipt.energy_j, abs=J_QUANTUM)
    assert (kept["energy_j"] / J_QUANTUM).is_integer()


async def test_a_row_says_what_was_asked_and_what_came_of_it() -> None:
    rows = await receipts(
        {"a": report_of(energy_j=321.0, output_tokens=40.0, input_tokens=90.0)},
        tenant="acme", max_output_tokens=64.0,
        budget=Budget(ttft_ms=60_000.0), client_retries=2, input_tokens=90.0,
    )  # fmt: skip
    outcome, reason, receipt = rows[0]
    abroad = receipt.request._replace(residency=frozenset(("us", "eu")))
    told = receipt._replace(request=abroad)
    kept = row(ended_cells(told, outcome, reason, lambda name: f"<{name}>"))
    assert kept["outcome"] == "answered"
    assert (kept["reason"], kept["attempt"], kept["client_retries"]) == (None, 1, 2)
    assert (kept["tenant"], kept["residency"], kept["model"]) == ("<acme>", "eu;us", "llama")
    assert (kept["endpoint"], kept["region"], kept["policy"]) == ("a", "near", receipt.policy)
    assert (kept["ttft_budget_ms"], kept["tpot_budget_ms"]) == (60_000.0, None)
    assert kept["max_output_tokens"] == 64
    assert (kept["output_tokens"], kept["tokens_kind"]) == (40, "reported")
    assert (kept["input_tokens"], kept["input_kind"]) == (90, "reported")
    assert (kept["energy_j"], kept["energy_kind"]) == (321.0, "measured")
    assert kept["energy_low_j"] is None
    assert (kept["basis"], kept["factors"]) == ("average", "lifecycle")
    assert kept["g_per_kwh"] == 100.0
    assert kept["profile"] == receipt.decision.served.profile.name


def report_of(**figures):
    return Says(b"answer", trailers=report(**figures))


async def test_an_attempt_that_was_moved_from_is_an_estimate_with_its_reason() -> None:
    rows = await receipts({"a": fails("fault", end_s=2.0)})
    outcome, reason, receipt = rows[0]
    kept = row(ended_cells(receipt, outcome, reason, plain))
    assert (kept["outcome"], kept["reason"], kept["attempt"]) == ("moved", "upstream_fault", 1)
    assert (kept["energy_kind"], kept["tokens_kind"]) == ("estimated", "assumed")
    assert kept["energy_low_j"] < kept["energy_j"] < kept["energy_high_j"]
    assert kept["run_s"] == 2.0
    last = row(ended_cells(rows[1][2], rows[1][0], "", plain))
    assert last["decision_id"] == kept["decision_id"]


async def test_what_is_not_known_is_null() -> None:
    ((outcome, _, receipt),) = await receipts()
    unknown = receipt._replace(
        energy_j=math.nan, g_per_kwh=math.nan, gco2e=math.nan, ttft_ms=math.nan,
        decision=receipt.decision._replace(intensity=None),
    )  # fmt: skip
    kept = row(ended_cells(unknown, outcome, "", plain))
    names = ("energy_j", "energy_kind", "gco2e", "g_per_kwh", "ttft_ms", "intensity_source")
    assert {name: kept[name] for name in names} == dict.fromkeys(names)


async def test_what_waited_has_what_it_would_have_been_without() -> None:
    ((outcome, _, receipt),) = await receipts()
    told = RunAtOnce(3600.0, "north", 300.0, "forecast", "average/lifecycle", 1.5)
    waited = receipt._replace(request=receipt.request._replace(run_at_once=told))
    kept = row(ended_cells(waited, outcome, "", plain))
    assert (kept["waited_s"], kept["at_once_region"]) == (3600.0, "north")
    assert (kept["at_once_g_per_kwh"], kept["at_once_kind"]) == (300.0, "forecast")
    assert kept["at_once_basis"] == "average/lifecycle"
    joules = kept["energy_j"] * 1.5 + kept["network_j"]
    assert kept["at_once_gco2e"] == pytest.approx(joules / 3.6e6 * 300.0, abs=G_QUANTUM)
    assert kept["at_once_gco2e"] % G_QUANTUM == 0.0
    unknown = row(ended_cells(waited._replace(energy_j=math.nan), outcome, "", plain))
    assert unknown["at_once_gco2e"] is None
    assert row(ended_cells(receipt, outcome, "", plain))["waited_s"] is None


def test_a_request_that_went_nowhere_has_a_row_without_an_endpoint() -> None:
    asked = request(tenant="acme", input_tokens=12.0)
    kept = row(
        turned_away_cells(asked, RowOutcome.REFUSED, "shed", "green", 100.5, 3.0, lambda _: "")
    )
    assert (kept["outcome"], kept["reason"], kept["attempt"]) == ("refused", "shed", 0)
    assert (kept["tenant"], kept["endpoint"], kept["energy_j"]) == (None, None, None)
    assert (kept["input_tokens"], kept["input_kind"], kept["e2e_ms"]) == (12, "stated", 3.0)
    assert kept["finished_at"].timestamp() == 100.5


def test_steps_add_up_exactly_in_any_order() -> None:
    values = [in_steps(value / 7.0, 1 / J_QUANTUM) for value in range(1000)]
    assert sum(values) == sum(reversed(values)) == math.fsum(values)

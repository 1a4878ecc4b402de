"""What a receipt tells, what it leaves out, and that gRPC can carry it."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.budget_rulings import EXHAUSTED, SHADOW
from router.core.claims import IGNORED
from router.core.columns import GREENEST
from router.core.pipeline import CARBON_STALE, CARBON_UNKNOWN
from router.core.question import ORIGIN_UNKNOWN
from router.core.reports import Doubt
from router.director.choice import BUDGET_MISSED
from router.director.dispatcher import STATE_STORE_FAILING
from router.gateway.carbon_field import carbon_field
from router.gateway.oip.trailers import SHORTENED
from router.gateway.receipts import StreamReceipts, as_metadata, trailers
from router.model import (
    BudgetStanding,
    Predicted,
    Provenance,
    Relax,
    Request,
    RunAtOnce,
    TokensKind,
)
from tests.factories import NOW, endpoint, intensity, served, task_profile
from tests.gateway.support import decision, receipt


def test_everything_that_is_known_is_told():
    assert dict(trailers(receipt())) == {
        "x-carbon-decision-id": "gw-1",
        "x-carbon-policy": "carbon-first",
        "x-carbon-region": "west",
        "x-carbon-grid-zone": "grid-west",
        "x-carbon-endpoint": "west-0",
        "x-carbon-accounting": "attributional",
        "x-carbon-energy-j": "215.5",
        "x-carbon-energy-kind": "emulated",
        "x-carbon-marginal-energy-j": "101",
        "x-carbon-facility-energy-j": "258.6",
        "x-carbon-gco2e": "0.0086",
        "x-carbon-run-g-per-kwh": "120",
        "x-carbon-predicted-ttft-ms": "80.2",
        "x-carbon-predicted-tpot-ms": "8.00",
        "x-carbon-predicted-e2e-ms": "1700.0",
        "x-carbon-actual-ttft-ms": "81.0",
        "x-carbon-actual-e2e-ms": "1712.0",
        "x-carbon-predicted-gco2e": "0.0082",
        "x-carbon-latency-first-endpoint": "east-0",
        "x-carbon-latency-first-gco2e": "0.031",
        "x-carbon-output-tokens": "200",
        "x-carbon-tokens-kind": "reported",
        "x-carbon-g-per-kwh": "123.4",
        "x-carbon-g-per-kwh-interval": "123.4-123.4",
        "x-carbon-basis": "average",
        "x-carbon-factors": "lifecycle",
        "x-carbon-intensity-kind": "measured",
        "x-carbon-intensity-source": "test",
        "x-carbon-intensity-age-s": "30",
    }


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("energy_j", "energy-j"),
        ("marginal_energy_j", "marginal-energy-j"),
        ("facility_energy_j", "facility-energy-j"),
        ("gco2e", "gco2e"),
        ("ttft_ms", "actual-ttft-ms"),
        ("e2e_ms", "actual-e2e-ms"),
    ],
)
def test_a_figure_that_is_not_known_has_no_key(field, key):
    told = dict(trailers(receipt(**{field: math.nan})))
    assert f"x-carbon-{key}" not in told
    assert len(told) == len(trailers(receipt())) - 1


def test_what_reading_the_prompt_took_is_told_where_it_is_known():
    told = dict(trailers(receipt(prompt_energy_j=12.25)))
    assert told.pop("x-carbon-prompt-energy-j") == "12.25"
    assert told == dict(trailers(receipt()))
    assert dict(trailers(receipt(prompt_energy_j=0.0)))["x-carbon-prompt-energy-j"] == "0"
    stream = StreamReceipts()
    for joules in (12.25, 3.5):
        stream.add(receipt(prompt_energy_j=joules))
    assert dict(stream.as_metadata(whole=True))["x-carbon-prompt-energy-j"] == "15.75"
    # A total with a part that is not known is not told.
    stream.add(receipt())
    assert "x-carbon-prompt-energy-j" not in dict(stream.as_metadata(whole=True))


def test_what_is_as_usual_is_left_out():
    usual = dict(trailers(receipt(decision=decision(run_g_per_kwh=123.4))))
    assert "x-carbon-run-g-per-kwh" not in usual
    assert dict(trailers(receipt(attempts=2)))["x-carbon-attempts"] == "2"


def test_a_marginal_figure_is_one_key_that_says_what_it_is():
    beside = replace(intensity(420.0), source="watttime")
    told = dict(trailers(receipt(marginal=beside, marginal_gco2e=0.03)))
    assert told.pop("x-carbon-marginal") == (
        "gco2e=0.03; g-per-kwh=420; kind=measured; source=watttime; estimate=consequential"
    )
    assert told == dict(trailers(receipt()))
    assert "x-carbon-marginal" not in dict(trailers(receipt(marginal=beside)))
    stream = StreamReceipts()
    for grams in (0.03, 0.01):
        stream.add(receipt(marginal=beside, marginal_gco2e=grams))
    assert "gco2e=0.04;" in dict(stream.as_metadata(whole=True))["x-carbon-marginal"]
    # A total with a part that is not known is not told.
    stream.add(receipt(marginal=beside))
    assert "x-carbon-marginal" not in dict(stream.as_metadata(whole=True))


def test_what_waiting_saved_is_told_of_who_waited():
    waited = RunAtOnce(3127.4, "us-west", 219.0, "forecast", "average/lifecycle", 1.5)
    made = receipt(request=Request("llama", run_at_once=waited), energy_j=3600.0, network_j=0.0,
                   gco2e=0.1)  # fmt: skip
    told = dict(trailers(made))
    assert told["x-carbon-waited-s"] == "3127.4"
    assert (told["x-carbon-at-once-region"], told["x-carbon-at-once-kind"]) == (
        "us-west", "forecast",
    )  # fmt: skip
    # 1.5 Wh of the facility at 219 g/kWh.
    assert told["x-carbon-at-once-gco2e"] == "0.3285"
    assert told["x-carbon-saved-by-waiting-gco2e"] == "0.2285"
    unknown = dict(trailers(made._replace(gco2e=math.nan)))
    assert "x-carbon-saved-by-waiting-gco2e" not in unknown
    assert not {key for key in dict(trailers(receipt())) if "at-once" in key}


def test_an_unknown_grid_is_not_told_as_a_clean_one():
    unknown = decision(
        intensity=None, run_g_per_kwh=math.nan, gco2e=math.nan, latency_first_gco2e=math.nan,
        latency_first_endpoint="", flags=("carbon_unknown",), relaxed=(Relax.CARBON,),
    )  # fmt: skip
    predicted = Predicted(210.0, math.nan, math.nan)
    told = dict(trailers(receipt(decision=unknown, gco2e=math.nan, predicted=predicted)))
    assert not {key for key in told if "g-per-kwh" in key or "gco2e" in key}
    assert told["x-carbon-flags"] == "carbon_unknown"
    assert told["x-carbon-relaxed"] == "carbon"
    assert "x-carbon-latency-first-endpoint" not in told


def test_a_forecast_made_ahead_has_no_negative_age():
    ahead = decision(intensity=intensity(100.0, observed_at=NOW + 600.0))
    assert dict(trailers(receipt(decision=ahead)))["x-carbon-intensity-age-s"] == "0"


names = st.text(max_size=300)


@given(names, names, names, st.lists(names, max_size=3), st.floats(allow_nan=True))
def test_any_name_and_figure_becomes_metadata_that_grpc_takes(region, source, flag, flags, figure):
    odd = decision(
        endpoint=endpoint(region),
        intensity=intensity(1.0, source=source),
        flags=tuple(flags),
        latency_first_endpoint=flag,
    )
    told = dict(trailers(receipt(region=region, decision=odd, energy_j=figure)))
    for key, value in told.items():
        assert key == key.lower() and key.startswith("x-carbon-")
        assert value.isascii() and value.isprintable()
    assert ("x-carbon-energy-j" in told) == math.isfinite(figure)


def test_a_stream_tells_totals_and_the_last_request():
    receipts = StreamReceipts()
    receipts.add(receipt(decision_id="gw-1", energy_j=100.0, gco2e=0.01))
    receipts.add(receipt(decision_id="gw-2", energy_j=50.0, gco2e=0.02, region="east"))
    told = dict(receipts.as_metadata(whole=True))
    assert told["x-carbon-requests"] == "2"
    assert (told["x-carbon-energy-j"], told["x-carbon-gco2e"]) == ("150", "0.03")
    assert told["x-carbon-predicted-gco2e"] == "0.0164"
    assert told["x-carbon-latency-first-gco2e"] == "0.062"
    assert (told["x-carbon-decision-id"], told["x-carbon-region"]) == ("gw-2", "east")


def test_in_one_key_a_stream_tells_the_same_totals():
    receipts = StreamReceipts()
    for one in (receipt(energy_j=100.0, gco2e=0.01), receipt(energy_j=50.0, gco2e=0.02)):
        receipts.add(one)
    ((key, field),) = receipts.as_metadata(whole=False)
    assert key == "x-carbon"
    assert "gco2e=0.030000000, energy_j=150.000" in field
    assert field.endswith(", requests=2")


def test_one_request_is_told_in_one_key_or_in_all():
    assert as_metadata(receipt(), whole=True) == trailers(receipt())
    ((key, field),) = as_metadata(receipt(), whole=False)
    assert (key, field) == ("x-carbon", carbon_field(decision(), "gw-1", receipt()))


def test_a_total_with_an_unknown_part_is_unknown():
    receipts = StreamReceipts()
    receipts.add(receipt(gco2e=math.nan))
    receipts.add(receipt())
    told = dict(receipts.as_metadata(whole=True))
    assert "x-carbon-gco2e" not in told
    assert told["x-carbon-energy-j"] == "431"


ASSUMED = {
    "tokens_kind": TokensKind.ASSUMED, "tokens_low": 112.0, "tokens_high": 356.0,
    "energy_kind": Provenance.ESTIMATED, "energy_low_j": 150.0, "energy_high_j": 300.5,
}  # fmt: skip


def test_an_estimate_is_told_with_its_kind_and_its_interval():
    told = dict(trailers(receipt(**ASSUMED)))
    assert (told["x-carbon-output-tokens"], told["x-carbon-tokens-kind"]) == ("200", "assumed")
    assert told["x-carbon-output-tokens-interval"] == "112-356"
    assert told["x-carbon-energy-j-interval"] == "150-300.5"


def test_a_task_has_no_tokens_to_tell():
    image = decision(served=served(task_profile()))
    assert not [key for key, _ in trailers(receipt(decision=image)) if "tokens" in key]


def test_figures_that_were_not_believed_are_flagged_beside_the_decisions_own():
    doubted = receipt(decision=decision(flags=("carbon_stale",)), doubts=("report_malformed",))
    assert dict(trailers(doubted))["x-carbon-flags"] == "carbon_stale,report_malformed"


def test_a_stream_is_known_as_its_worst_known_request_is():
    receipts = StreamReceipts()
    measured = receipt(energy_kind=Provenance.MEASURED, tokens_low=200.0, tokens_high=200.0)
    for one in (measured, receipt(**ASSUMED, doubts=("report_malformed",)), measured):
        receipts.add(one)
    told = dict(receipts.as_metadata(whole=True))
    assert (told["x-carbon-output-tokens"], told["x-carbon-tokens-kind"]) == ("600", "assumed")
    assert told["x-carbon-output-tokens-interval"] == "512-756"
    assert told["x-carbon-energy-kind"] == "estimated"
    assert told["x-carbon-energy-j-interval"] == "581-731.5"
    assert told["x-carbon-flags"] == "report_malformed"


def test_a_stream_of_nothing_tells_just_that():
    assert StreamReceipts().as_metadata(whole=True) == [("x-carbon-requests", "0")]
    assert StreamReceipts().as_metadata(whole=False) == [("x-carbon", "requests=0")]


# The page that names them all

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "receipts.md").read_text("utf-8")
CODE = "".join(path.read_text("utf-8") for path in (ROOT / "router" / "gateway").rglob("*.py"))


def test_every_key_has_a_row_and_every_row_a_key():
    rows = set(re.findall(r"^\| `(x-carbon-[a-z0-9-]+)` \|", DOCUMENT, re.MULTILINE))
    written = set(re.findall(r'"(x-carbon-[a-z0-9-]+)"', CODE))
    assert len(rows) > 30
    # A prefix, and the one header of a request.
    assert rows == written - {"x-carbon-", "x-carbon-receipt"}


def test_every_flag_is_named():
    flags = {
        ORIGIN_UNKNOWN,
        CARBON_STALE,
        CARBON_UNKNOWN,
        EXHAUSTED,
        SHADOW,
        GREENEST,
        *IGNORED,
        BUDGET_MISSED,
        STATE_STORE_FAILING,
        SHORTENED,
        *Doubt,
    }
    assert {flag for flag in flags if f"`{flag}`" not in DOCUMENT} == set()


def test_what_is_left_of_a_budget_is_one_key_and_a_streams_is_that_of_its_last():
    told = dict(trailers(receipt(carbon_budget=BudgetStanding("tenant", 0.25))))
    assert told["x-carbon-budget"] == "name=tenant; left=0.2500"
    assert "x-carbon-budget" not in dict(trailers(receipt()))
    stream = StreamReceipts()
    for left in (0.25, 0.125):
        stream.add(receipt(carbon_budget=BudgetStanding("tenant", left)))
    assert dict(stream.as_metadata(whole=True))["x-carbon-budget"] == "name=tenant; left=0.1250"

"""Receipts as bytes: told again as they were, and nonsense is an error."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import DataError
from router.gateway.openai.receipt_documents import receipt_document
from router.gateway.receipt_rows import MOST_ROW_BYTES, VERSION, decode_receipt, encode_receipt
from router.gateway.receipts import trailers
from router.model import (
    BudgetStanding,
    CachedKind,
    Kind,
    Predicted,
    Provenance,
    Receipt,
    Relax,
    Request,
    RunAtOnce,
    TokensKind,
)
from tests.factories import intensity, served, task_profile
from tests.gateway.support import decision, receipt

FIGURES = st.floats(0.0, 1e12) | st.sampled_from([math.nan, math.inf])
NAMES = st.text(st.characters(codec="utf-8"), max_size=40)
INTENSITIES = st.none() | st.builds(
    lambda g, kind: intensity(g, kind=kind), st.floats(0.0, 1e3), st.sampled_from(Kind)
)
DECISIONS = st.builds(
    decision,
    run_g_per_kwh=FIGURES,
    ttft_ms=FIGURES,
    tpot_ms=FIGURES,
    e2e_ms=FIGURES,
    intensity=INTENSITIES,
    latency_first_endpoint=NAMES,
    flags=st.lists(NAMES, max_size=4).map(tuple),
    relaxed=st.lists(st.sampled_from(Relax), max_size=2).map(tuple),
    served=st.sampled_from([served(), served(profile=task_profile())]),
)
RECEIPTS = st.builds(
    receipt,
    decision_id=NAMES,
    request=st.builds(
        lambda model, tenant, waited: Request(model, tenant=tenant, run_at_once=waited),
        NAMES,
        NAMES,
        st.none() | st.builds(RunAtOnce, FIGURES, NAMES, FIGURES, NAMES, NAMES, FIGURES),
    ),
    decision=DECISIONS,
    policy=NAMES,
    region=NAMES,
    grid_zone=NAMES,
    attempts=st.integers(1, 9),
    energy_kind=st.sampled_from(Provenance),
    tokens_kind=st.sampled_from(TokensKind),
    cached_kind=st.sampled_from(CachedKind),
    predicted=st.builds(Predicted, FIGURES, FIGURES, FIGURES),
    doubts=st.lists(NAMES, max_size=3).map(tuple),
    marginal=INTENSITIES,
    carbon_budget=st.none() | st.builds(BudgetStanding, NAMES, st.floats(0.0, 1.0)),
    **{
        name: FIGURES
        for name in (
            "output_tokens", "tokens_low", "tokens_high", "input_tokens", "cached_tokens",
            "energy_j", "energy_low_j", "energy_high_j", "prompt_energy_j", "marginal_energy_j",
            "facility_energy_j", "gco2e", "marginal_gco2e", "ttft_ms", "e2e_ms", "finished_at",
            "lost_gco2e", "g_per_kwh", "pue", "network_j", "run_s",
        )
    },
)  # fmt: skip


@given(RECEIPTS)
def test_all_that_is_told_is_told_by_others_as_well(original):
    again = decode_receipt(encode_receipt(original))
    assert receipt_document(again) == receipt_document(original)
    assert trailers(again) == trailers(original)
    assert again.request.tenant == original.request.tenant
    assert again.decision_id == original.decision_id


def test_a_field_that_receipts_come_to_have_is_thought_of_here():
    assert len(Receipt._fields) == 35, "tell it in the row, raise VERSION, and put it into RECEIPTS"


def test_rows_of_gateways_that_knew_less_are_read():
    before = decode_receipt(msgspec.msgpack.encode(FIELDS[:-6]))
    assert math.isnan(before.pue) and "pue" not in receipt_document(before)
    assert decode_receipt(msgspec.msgpack.encode(FIELDS[:-7])).lost_gco2e == 0.0


REAL = encode_receipt(receipt(request=Request("llama", tenant="acme"), marginal=intensity(500.0)))
FIELDS = msgspec.msgpack.decode(REAL)


def swallows(data):
    try:
        receipt_document(decode_receipt(data))
    except DataError:
        return


@given(st.binary(max_size=200))
def test_garbage_is_an_error(data):
    swallows(data)


@given(st.integers(0, len(REAL) - 1), st.binary(max_size=3))
def test_a_damaged_one_is_a_receipt_or_an_error(at, piece):
    swallows(REAL[:at] + piece + REAL[at + 1 :])


@given(
    st.integers(0, len(FIELDS) - 1),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
)
def test_a_foreign_field_is_a_receipt_or_an_error(at, field):
    fields = [*FIELDS[:at], field, *FIELDS[at + 1 :]]
    try:
        data = msgspec.msgpack.encode(fields)
    except OverflowError:
        return
    swallows(data)


@pytest.mark.parametrize(
    "data",
    [
        b"", REAL[:-1], msgspec.msgpack.encode([VERSION + 1, *FIELDS[1:]]),
        msgspec.msgpack.encode(FIELDS[:20]), b"\xdd\x7f\xff\xff\xff", b"\x91" * 5000,
        REAL + b"\x00" * MOST_ROW_BYTES,
        msgspec.msgpack.encode([*FIELDS[:1], "x" * 600, *FIELDS[2:]]),
    ],
)  # fmt: skip
def test_what_is_no_receipt_of_this_version_is_an_error(data):
    with pytest.raises(DataError):
        decode_receipt(data)


def test_a_usual_one_fits_where_workers_keep_it():
    assert len(REAL) < 600

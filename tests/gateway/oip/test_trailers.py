"""A receipt never costs the caller the answer."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.gateway.oip.trailers import LIMIT_BYTES, SHORTENED, with_receipt
from router.gateway.receipts import trailers
from tests.gateway.support import Script, infer_request, receipt, running, soon

RECEIPT = trailers(receipt())


def size(metadata):
    return sum(len(key) + len(value) + 32 for key, value in metadata)


def test_both_are_whole_where_they_fit():
    backend = (("ce-id", "7"), ("trace-bin", b"\x00\xff"))
    assert with_receipt(backend, RECEIPT) == (*backend, *RECEIPT)
    assert with_receipt((), RECEIPT) == tuple(RECEIPT)


def test_a_shortened_receipt_keeps_what_matters_and_says_so():
    kept = dict(with_receipt((("x-big", "a" * 7500),), RECEIPT)[1:])
    assert kept["x-carbon-flags"] == SHORTENED
    assert {"x-carbon-decision-id", "x-carbon-gco2e", "x-carbon-energy-j"} <= kept.keys()
    assert kept.items() <= {*RECEIPT, ("x-carbon-flags", SHORTENED)}


def test_flags_that_were_there_stay():
    flagged = [*RECEIPT, ("x-carbon-flags", "stale")]
    kept = with_receipt((("x-big", "a" * 7000),), flagged)
    assert [value for key, value in kept if key == "x-carbon-flags"] == [f"stale,{SHORTENED}"]


@given(st.lists(st.integers(0, 9000), max_size=3))
def test_the_backends_own_is_never_touched_and_the_limit_never_passed(sizes):
    backend = tuple((f"x-{number}", "a" * length) for number, length in enumerate(sizes))
    whole = with_receipt(backend, RECEIPT)
    assert whole[: len(backend)] == backend
    assert size(whole) <= max(LIMIT_BYTES - 128, size(backend))


@pytest.mark.parametrize("length", [6000, 7000, 7500, 7800, 8000])
async def test_what_a_client_takes_directly_it_takes_through_the_gateway(length):
    async with running(Script(trailers=(("x-big", "a" * length),))) as gateway:
        for _ in range(10):
            call = gateway.stub.ModelInfer(infer_request())
            await soon(call)
            assert await call.code() is grpc.StatusCode.OK

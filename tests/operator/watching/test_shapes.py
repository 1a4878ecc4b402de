import json

import pytest

from router.errors import DataError
from router.operator.watching.shapes import FeedDecision, FeedTick, decoded, decoded_list
from tests.fakes.console_feed import decision, tick


def test_what_is_not_known_is_none_and_what_is_not_shown_is_passed_over():
    found = decoded(json.dumps(tick(rates=False)).encode(), FeedTick)
    assert found.rates is None
    (one,) = decoded_list(json.dumps([decision(more="of it")]).encode(), FeedDecision)
    assert (one.receipt, one.budget.ttft_ms, one.budget.e2e_ms) == (None, None, 2000.0)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"at": 1.0}']
)
def test_what_is_of_another_shape_is_refused(data):
    with pytest.raises(DataError):
        decoded(data, FeedTick)


@pytest.mark.parametrize("at", ["NaN", "1e999", '"soon"', "null"])
def test_a_figure_is_a_number_that_is_finite(at):
    document = json.dumps(tick()).replace('"at": 1700000000.0', f'"at": {at}')
    with pytest.raises(DataError):
        decoded(document.encode(), FeedTick)

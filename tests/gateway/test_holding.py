"""How long a caller may be kept waiting, by what it says."""

import math

import pytest

from router.gateway.holding import Waited, held, patience_s
from router.model import Request


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, math.inf),
        ({"x-stainless-read-timeout": "600"}, 300.0),
        ({"x-stainless-read-timeout": "600", "x-stainless-timeout": "60"}, 30.0),
        ({"x-stainless-timeout": "soon"}, math.inf),
        ({"x-stainless-timeout": "-1"}, math.inf),
        ({"x-stainless-timeout": "nan"}, math.inf),
        ({"x-stainless-timeout": "NOT_GIVEN"}, math.inf),
    ],
)
def test_half_of_what_a_client_waits(fields, expected):
    assert patience_s(fields) == expected


class Recorded:
    def __init__(self):
        self.waits = []

    async def hold(self, request, wait_s):
        self.waits.append(wait_s)
        return Waited(True)


async def test_who_sets_no_deadline_is_not_held():
    holding = Recorded()
    assert not (await held(holding, Request("m"), math.inf, 10.0)).was_held
    assert not (await held(None, Request("m"), 5.0, 10.0)).was_held
    assert (await held(holding, Request("m"), 50.0, 10.0)).was_held
    assert holding.waits == [10.0]

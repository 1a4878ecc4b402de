"""Requests as columns: cut, put in order and joined, with what their prompts begin with."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from router.lab.sim.traffic.chained import chains_of
from router.lab.sim.traffic.columns import COLUMNS, Traffic, joined, unchained

names = st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=8)


def traffic(chains, count):
    columns = {name: np.arange(count, dtype=np.float64) for name in COLUMNS}
    return Traffic(**columns, chains=chains)


def rows(chains):
    bounds = zip(chains.starts[:-1], chains.starts[1:], strict=True)
    return [chains.keys[a:b].tolist() for a, b in bounds]


@given(names, st.data())
def test_chains_are_taken_with_their_requests(lists, data):
    chains = chains_of(lists)
    order = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    taken = traffic(chains, len(lists)).taken(np.array(order, np.int64))
    assert taken.arrival_s.tolist() == order
    assert rows(taken.chains) == [rows(chains)[place] for place in order]
    middle = slice(len(lists) // 3, 2 * len(lists) // 3 + 1)
    assert rows(chains.taken(middle)) == rows(chains)[middle]


@given(names, names)
def test_parts_are_joined_whether_they_have_chains_or_not(lists, others):
    parts = [traffic(chains_of(lists), len(lists)), traffic(None, 2),
             traffic(chains_of(others), len(others))]  # fmt: skip
    whole = joined(parts)
    assert len(whole) == len(lists) + 2 + len(others)
    assert rows(whole.chains) == [*rows(chains_of(lists)), [], [], *rows(chains_of(others))]
    assert joined([traffic(None, 1), traffic(None, 3)]).chains is None


def test_requests_without_chains_have_empty_ones():
    assert rows(unchained(3)) == [[], [], []]

"""What a gateway expects its servers to have cached, and how it comes to know better."""

import numpy as np
import pytest

from router.core.layout import Layout
from router.core.prefix_index import MOST_OF_MODEL, MOST_OF_SERVER, PrefixIndex
from router.core.prefixes import chain_words
from router.model import Prefix
from tests import factories as f

KEEPS = f.token_profile(prefix_cache_tokens=12_800, prefix_block=16)
KEEPS_NONE = f.token_profile("cold")


def prefix(*words, block_tokens=128.0):
    names = np.array(words, np.int64)
    keys = np.empty_like(names)
    chain_words(names, np.array([0, len(names)]), 3, keys)
    return Prefix(keys, block_tokens)


def candidates(**profiles):
    endpoints = [f.endpoint(name, "west", f.served(one)) for name, one in profiles.items()]
    return Layout(f.fleet(*endpoints)).find("llama", "")


def index(previous=None, **profiles):
    return PrefixIndex(candidates(**(profiles or {"a": KEEPS, "b": KEEPS})), previous)


TURN = prefix(1, 2, 3, 4)
NEXT_TURN = prefix(1, 2, 3, 4, 5, 6)


def test_what_was_sent_somewhere_is_expected_there_alone():
    known = index()
    assert known.depart(0, TURN, 600.0, 1.0) == 0.0
    assert known.expected(NEXT_TURN, 900.0).tolist() == [512.0, 0.0]
    assert known.expected(prefix(1, 2, 9), 900.0).tolist() == [256.0, 0.0]
    assert known.depart(0, NEXT_TURN, 900.0, 1.0) == 512.0
    assert known.expected(NEXT_TURN, 900.0).tolist() == [768.0, 0.0]


def test_asking_changes_nothing():
    known = index()
    known.depart(0, TURN, 600.0, 1.0)
    before = known.expected(NEXT_TURN, 900.0)
    for _ in range(3):
        assert (known.expected(NEXT_TURN, 900.0) == before).all()
    assert known.expected(prefix(7, 8), 300.0).tolist() == [0.0, 0.0]


def test_servers_that_keep_no_prompts_are_expected_to_have_none():
    known = index(a=KEEPS, b=KEEPS_NONE)
    assert known.keeps
    known.depart(1, TURN, 600.0, 1.0)
    assert known.expected(TURN, 600.0).tolist() == [0.0, 0.0]
    assert not index(a=KEEPS_NONE, b=f.task_profile()).keeps


def test_a_server_that_reports_none_is_soon_expected_to_have_few_and_believed_again():
    known = index()
    sent = [known.depart(0, TURN, 600.0, 1.0) for _ in range(21)][1:]
    assert set(sent) == {512.0}
    for tokens in sent:
        known.report(0, tokens, 0.0, exact=True)
    assert known.trust(0) < 0.13
    assert known.expected(TURN, 600.0)[0] == pytest.approx(512.0 * known.trust(0))
    # What is sent there does not stop to tell.
    for _ in range(40):
        known.report(0, known.depart(0, TURN, 600.0, 1.0), 512.0, exact=True)
    assert known.trust(0) > 0.95
    assert known.trust(1) == 1.0


def test_nobodys_report_counts_for_more_than_all_of_it():
    known = index()
    for told in (1e9, np.nan, -5.0, np.inf):
        known.report(0, 512.0, told, exact=True)
    assert known.trust(0) == 1.0
    # Where the prompt was of a length that nobody knew, a part is as good as all.
    known.report(0, 512.0, 1.0, exact=False)
    assert known.trust(0) == 1.0
    known.report(0, 0.0, 0.0, exact=True)
    assert known.trust(0) == 1.0


def test_a_server_that_was_gone_has_nothing():
    known = index()
    known.depart(0, TURN, 600.0, 1.0)
    known.depart(1, TURN, 600.0, 1.0)
    known.forget(0)
    assert known.expected(TURN, 600.0).tolist() == [0.0, 512.0]


def test_a_reload_keeps_what_was_learned_of_servers_that_stay():
    before = index()
    before.depart(0, TURN, 600.0, 1.0)
    before.depart(1, prefix(7, 8), 600.0, 1.0)
    for _ in range(10):
        before.report(1, 512.0, 0.0, exact=True)
    after = index(before, b=KEEPS, c=KEEPS)
    assert after.expected(TURN, 600.0).tolist() == [0.0, 0.0]
    assert after.trust(0) == before.trust(1)
    assert after.expected(prefix(7, 8), 600.0)[0] == before.expected(prefix(7, 8), 600.0)[1]
    larger = f.token_profile(prefix_cache_tokens=25_600)
    assert index(before, b=larger).trust(0) == 1.0


def test_memory_is_bounded_however_much_servers_say_they_keep():
    endless = f.token_profile(prefix_cache_tokens=10**9)
    assert index(a=endless)._blocks == [MOST_OF_SERVER]
    many = index(**{f"e{n}": endless for n in range(100)})
    assert sum(many._blocks) <= MOST_OF_MODEL


def test_a_cache_that_is_full_forgets_what_was_used_longest_ago():
    known = index()
    first = prefix(*range(60))
    known.depart(0, first, 8000.0, 1.0)
    known.depart(0, prefix(*range(1000, 1060)), 8000.0, 1.0)
    # 100 blocks: of the first prompt the end is gone.
    assert known.expected(first, 8000.0)[0] == 40 * 128.0

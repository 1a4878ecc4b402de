"""What is expected cached where: against the slow twin, and as the prompts' bytes have it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core import prefixes as px
from tests.core.slow_prefixes import SlowCache

SIZES = [0, 1, 5, 24]


def chain(words, seed=7):
    words = np.array(words, np.int64)
    out = np.zeros_like(words)
    px.chain_words(words, np.array([0, len(words)]), seed, out)
    return out


def of_bytes(data, seed=7, size=px.CHUNK_BYTES):
    out = np.zeros(len(data) // size, np.int64)
    px.chain_bytes(np.frombuffer(data, np.uint8), 0, size, seed, out)
    return out.tolist()


# Few words, so that chains share beginnings of all lengths.
words = st.lists(st.integers(0, 2), min_size=0, max_size=12)
steps = st.lists(
    st.tuples(
        st.integers(0, len(SIZES) - 1),
        words,
        st.sampled_from([1.0, 1.0, 0.5, 0.05]),
        st.sampled_from(["keep", "keep", "keep", "keep", "clear"]),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(steps, words)
def test_caches_are_those_of_the_slow_twin(story, asked):
    caches = px.build_caches(SIZES)
    slow = [SlowCache(size) for size in SIZES]
    asked = chain(asked)
    for place, sent, share, what in story:
        keys = chain(sent)
        if what == "clear":
            px.clear(*caches, place)
            slow[place].clear()
        else:
            px.keep(*caches, place, keys, 0, len(keys), share)
            slow[place].keep(keys.tolist(), share)
        for one, twin in enumerate(slow):
            assert px.matched(*caches, one, asked, 0, len(asked)) == twin.matched(asked.tolist())
            assert caches.states[one, px.COUNT] == len(twin.blocks) <= SIZES[one]
        # In order of use, too.
        state, first = caches.states[place], caches.states[place, px.FIRST_ENTRY]
        order, at = [], state[px.OLDEST]
        while at >= 0:
            order.append(int(caches.entries[first + at, px.ENTRY_KEY]))
            at = caches.entries[first + at, px.NEWER]
        assert order == list(slow[place].blocks)


def test_a_part_of_an_array_is_a_chain_too():
    caches = px.build_caches([16])
    keys = chain([1, 2, 3, 4, 5, 6])
    px.keep(*caches, 0, keys, 0, 4, 1.0)
    assert px.matched(*caches, 0, keys, 0, 6) == 4
    # The third block alone begins nothing that was sent, though it is there.
    assert px.matched(*caches, 0, keys, 2, 6) == 2


@given(st.binary(max_size=64), st.binary(min_size=1, max_size=64))
def test_bytes_share_the_keys_of_their_common_beginning(common, rest):
    both, first = common + rest, common + b"\0" + rest
    same = 0
    while same < min(len(both), len(first)) and both[same] == first[same]:
        same += 1
    one, other = of_bytes(both, size=8), of_bytes(first, size=8)
    assert one[: same // 8] == other[: same // 8]
    after = slice(same // 8, None)
    assert not set(one[after]) & set(other[after])


def test_keys_depend_on_all_that_stands_before_them():
    assert chain([1, 2, 3])[2] != chain([2, 2, 3])[2]
    assert chain([1, 2])[1] != chain([1, 2], seed=8)[1]
    assert 0 not in of_bytes(bytes(4096))
    assert len(set(of_bytes(bytes(4096)))) == 8


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [(0, 0.0), (1, 512.0), (3, 1488.0), (9, 1488.0)],
    ids=["nothing", "whole blocks", "never the last one", "nor beyond the prompt"],
)
def test_of_a_prompt_whole_blocks_are_cached_and_never_the_last_token(blocks, expected):
    # 1500 tokens: the server's blocks are of 16.
    assert px.cached_tokens(blocks, 512.0, 1500.0, 16.0) == expected


def test_a_prompt_of_one_block_is_read_whole():
    assert px.cached_tokens(1, 512.0, 16.0, 16.0) == 0.0


def test_a_server_is_believed_to_cache_as_much_as_it_reports():
    caches, keys = px.build_caches([100]), chain(range(4))
    beliefs = np.ones((1, px.BELIEFS))
    out = np.zeros(1)

    def expected():
        sizes = np.array([16.0])
        px.expect(*caches, beliefs, 0, keys, 0, 4, 128.0, 1000.0, sizes, out)
        return out[0]

    assert expected() == 0.0
    px.keep(*caches, 0, keys, 0, 4, 1.0)
    assert expected() == 512.0
    for _ in range(20):
        px.believe(beliefs, 0, 0.0)
    assert expected() < 0.13 * 512.0
    for _ in range(20):
        px.believe(beliefs, 0, 1.0)
    assert expected() > 0.85 * 512.0
    for strange in (-1.0, 2.0, np.nan, np.inf):
        before = beliefs.copy()
        px.believe(beliefs, 0, strange)
        assert (beliefs == before).all()


def test_others_take_their_part_of_a_servers_memory():
    beliefs = np.ones((1, px.BELIEFS))
    assert px.share_of(beliefs, 0, 1.0) == 1.0
    for _ in range(300):
        share = px.share_of(beliefs, 0, 0.25)
    assert share == pytest.approx(0.25, abs=0.01)
    for _ in range(1000):
        share = px.share_of(beliefs, 0, 0.0)
    assert share == 0.05


@pytest.mark.parametrize("seed", [1, 12345, 1 << 60])
@pytest.mark.parametrize("flips", [(1 << 63, (1 << 63) | (1 << 31)), (1 << 63, 1 << 63)])
def test_bits_that_no_product_spreads_do_not_meet(seed, flips):
    """The highest bit of a word stays where it is when it is multiplied by an odd number."""
    words = np.arange(64, dtype=np.uint64)
    changed = words.copy()
    changed[5:7] ^= np.array(flips, np.uint64)
    keys = []
    for one in (words, changed):
        out = np.zeros(1, np.int64)
        px.chain_bytes(np.frombuffer(one.tobytes(), np.uint8), 0, 512, seed, out)
        keys.append(int(out[0]))
    assert keys[0] != keys[1]

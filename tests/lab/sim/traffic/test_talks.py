"""Made-up talks: prompts that hold what was said before."""

import itertools

import numpy as np
import pytest

from router.lab.sim.traffic.columns import joined
from router.lab.sim.traffic.generate import Generated, Origin, Recipe, RequestKind
from router.lab.sim.traffic.tables import FLAT, constant_lengths, lengths_of_log_normal
from router.lab.sim.traffic.talks import BLOCK_TOKENS, MOST_TURNS, Talks
from router.model import Budget


def made(talks, duration_s=4000.0, rps=5.0, chunk_rows=262_144, kinds=1, **lengths):
    given = {"input_tokens": constant_lengths(200.0), "output_tokens": constant_lengths(100.0)}
    kind = RequestKind(
        "m", 1.0, **{**given, **lengths}, budget=Budget(), tenants=(("", 1.0),),
        residency=frozenset(), deadline_s=np.inf, talks=talks,
    )  # fmt: skip
    origins = (Origin("here", rps, 0.0, FLAT.hours, FLAT.days),)
    recipe = Recipe(origins, (kind,) * kinds, 0.0, 60.0, 0.0, duration_s, 3)
    return Generated(recipe, chunk_rows)


def whole(generated):
    return joined(list(generated.chunks()))


TALKS = Talks(
    shared_tokens=1024, shared_texts=3, turns=4.0, pause_s=30.0, most_tokens=10_000.0
)  # fmt: skip


def keys_of(traffic):
    bounds = zip(traffic.chains.starts[:-1], traffic.chains.starts[1:], strict=True)
    return [tuple(traffic.chains.keys[a:b].tolist()) for a, b in bounds]


def test_every_prompt_begins_as_the_one_before_in_its_talk_and_with_a_shared_text():
    traffic = whole(made(TALKS))
    keys = keys_of(traffic)
    texts = {one[: 1024 // BLOCK_TOKENS] for one in keys}
    assert len(texts) == 3
    # What is a talk's own begins after the text: one name for each talk.
    talks = {}
    for at_s, tokens, one in zip(traffic.arrival_s, traffic.input_tokens, keys, strict=True):
        talks.setdefault(one[: 1024 // BLOCK_TOKENS + 1], []).append((at_s, int(tokens), one))
    longest = max(talks.values(), key=len)
    assert len(longest) > 4
    for (_, before, shorter), (_, after, longer) in itertools.pairwise(longest):
        assert after == before + 300
        assert longer[: len(shorter)] == shorter
    assert {tokens[0][1] for tokens in talks.values() if tokens[0][0] > 2000.0} >= {1224}
    blocks = (traffic.input_tokens // BLOCK_TOKENS).tolist()
    assert [len(one) for one in keys] == blocks


def test_the_rate_is_that_of_requests_not_of_talks():
    # The first turns of the first minutes lack those that would have begun before.
    traffic = whole(made(TALKS, duration_s=20_000.0))
    counts = np.histogram(traffic.arrival_s, bins=10)[0]
    assert counts[2:].sum() / 16_000.0 == pytest.approx(5.0, rel=0.05)
    assert (np.diff(traffic.arrival_s) >= 0.0).all()
    assert traffic.arrival_s.max() < 20_000.0


def test_a_talk_ends_before_it_is_too_long():
    talks = Talks(1024, 3, 4.0, 30.0, most_tokens=1900.0)
    assert whole(made(talks)).input_tokens.max() == 1824


def test_the_same_seed_gives_the_same_talks_in_chunks_of_any_size():
    lengths = {"input_tokens": lengths_of_log_normal(300.0, 900.0)}
    one = whole(made(TALKS, kinds=2, **lengths))
    other = whole(made(TALKS, kinds=2, chunk_rows=97, **lengths))
    assert one.arrival_s.tobytes() == other.arrival_s.tobytes()
    assert one.chains.keys.tobytes() == other.chains.keys.tobytes()


def test_the_mean_prompt_is_as_long_as_it_is_said_to_be():
    traffic = whole(made(TALKS, duration_s=20_000.0))
    said = TALKS.mean_input_tokens(200.0, 100.0)
    assert said == 1024 + 3 * 300 + 200
    late = traffic.arrival_s > 2000.0
    assert traffic.input_tokens[late].mean() == pytest.approx(said, rel=0.05)


def test_one_turn_is_a_request_with_a_shared_text():
    traffic = whole(made(Talks(640, 1, 1.0, 60.0, 1e7), duration_s=500.0))
    assert set(traffic.input_tokens.tolist()) == {840}
    assert len({one[:10] for one in keys_of(traffic)}) == 1
    assert len(set(keys_of(traffic))) == len(traffic)


def test_no_talk_goes_on_for_ever():
    assert whole(made(TALKS, duration_s=20_000.0)).input_tokens.max() < MOST_TURNS * 300 + 1024

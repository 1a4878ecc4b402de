"""What is cached of a prompt is known of a server, by whichever name it is asked."""

import math
from dataclasses import replace

import numpy as np

from router.core.prefixes import CHUNK_TOKENS
from router.model import Alias, Prefix, Variant
from tests.factories import board, endpoint, fleet, request, served, snapshot, token_profile

KEEPS = token_profile("keeps@test", prefix_cache_tokens=100_000, prefix_block=16)
CHAT = Alias("chat", (Variant("small", 0.4), Variant("large", 0.8)), "made up")
PREFIX = Prefix(np.arange(1, 5, dtype=np.int64), CHUNK_TOKENS)


def model(name, profile=KEEPS):
    return served(profile, name, context_tokens=math.inf)


def a_board(*endpoints):
    return board(snapshot(replace(fleet(*endpoints), aliases={"chat": CHAT})))


def test_what_a_model_was_sent_is_expected_where_the_alias_is_asked_for():
    small, large = endpoint("a", "west", model("small")), endpoint("b", "west", model("large"))
    known = a_board(small, large)
    assert known.keeping == {"small", "large", "chat"}
    asked = request(model="chat", prefix=PREFIX)
    index, row = known.prefixes_of(asked, "b", large.models[0])
    index.read(row, PREFIX, 1.0)
    of_alias = known.prefixes("chat", "").expected(PREFIX, 600.0)
    assert of_alias[0] == 0.0 < of_alias[1]
    assert known.prefixes("large", "").expected(PREFIX, 600.0).tolist() == [of_alias[1]]
    above = known.layout.find_for(request(model="chat", quality_floor=0.8))
    assert known.prefixes(above.model, above.version).expected(PREFIX, 600.0).tolist() == [
        of_alias[1]
    ]


def test_one_endpoint_with_both_has_a_row_of_each():
    both = endpoint("a", "west", model("small"), model("large"))
    known = a_board(both)
    index, row = known.prefixes_of(request(model="chat", prefix=PREFIX), "a", both.models[1])
    index.read(row, PREFIX, 1.0)
    cached = known.prefixes("chat", "").expected(PREFIX, 600.0)
    candidates = known.layout.find("chat", "")
    assert [one.name for one in candidates.served] == ["small", "large"]
    assert cached[0] == 0.0 < cached[1]


def test_where_nobody_keeps_prompts_nobody_looks():
    known = a_board(endpoint("a", "west", model("small", token_profile())))
    assert not known.keeping
    assert known.prefixes("chat", "") is None

import base64
import math
import struct

import pytest

from router.http_api import EMBEDDINGS
from router.lab.emulator.http.asked import read
from router.lab.emulator.http.openai import embeddings
from router.lab.emulator.http.refusals import ErrorAnswer
from router.lab.emulator.http.reply import TokenCounts

INPUTS = [b"one", b"two", b"one"]


def embed(**fields):
    asked = read(EMBEDDINGS, {"model": "m", "input": "", **fields})
    return embeddings(asked, INPUTS, TokenCounts(5, 0, 1))


def test_the_same_text_has_the_same_vector_of_length_1():
    body = embed()
    one, two, again = (entry["embedding"] for entry in body["data"])
    assert one == again != two and len(one) == 384
    assert math.hypot(*one) == pytest.approx(1.0)
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


def test_base64_says_the_same():
    plain, packed = embed(dimensions=8), embed(dimensions=8, encoding_format="base64")
    data = base64.b64decode(packed["data"][1]["embedding"])
    assert list(struct.unpack("<8f", data)) == plain["data"][1]["embedding"]


@pytest.mark.parametrize(
    "fields", [{"dimensions": 0}, {"dimensions": True}, {"encoding_format": "hex"}]
)
def test_what_cannot_be_had_is_refused(fields):
    with pytest.raises(ErrorAnswer) as refused:
        embed(**fields)
    assert refused.value.param in fields

"""What passes for an answer: all that servers of these APIs say, and no page in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.backends.openai.answers import require_answer, require_stream
from router.errors import UpstreamFaultError
from router.http_api import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, OTHER, RESPONSES
from tests.backends.openai import samples
from tests.factories import endpoint

APIS = [CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES]
PLAIN = ((":status", "200"), ("content-type", "application/json"))
PACKED = (*PLAIN, ("content-encoding", "gzip"))
WEST = endpoint("west-0")
EVENTS = [*samples.CHAT, *samples.MESSAGES, *samples.RESPONSES]
# A comment, blank lines first, a BOM, fields of other names, an old error of llama.cpp.
ODD = [
    b": ping\n\n",
    b"\n\ndata: 1\n\n",
    b"\xef\xbb\xbfdata: 1\n\n",
    b"id: 7\ndata:1\n\n",
    b"error: {}\n",
]
NONE = [b"", b"<!DOCTYPE html>", b"\xff\xff\xff\xff", b"OK", b"null", b"\x1f\x8b\x08"]


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
@pytest.mark.parametrize("begins", NONE)
def test_pages_nothing_and_garbage_are_no_answers(api, begins):
    for require in (require_answer, require_stream):
        with pytest.raises(UpstreamFaultError) as raised:
            require(WEST, api, PLAIN, begins)
        # What it is may be anybody's.
        assert str(raised.value).startswith("west-0: the server gave ")
        assert len(str(raised.value)) < 80


@pytest.mark.parametrize("begins", [b'{"id":', b' \r\n{"id":', b"\xef\xbb\xbf{"])
def test_json_is_an_answer_to_either(begins):
    for require in (require_answer, require_stream):
        require(WEST, CHAT, PLAIN, begins)


@pytest.mark.parametrize("begins", [*EVENTS, *ODD])
def test_whatever_a_stream_begins_with_is_one_and_no_answer_in_one_piece(begins):
    for come in range(1, len(begins) + 1):
        require_stream(WEST, CHAT, PLAIN, begins[:come])
    with pytest.raises(UpstreamFaultError):
        require_answer(WEST, CHAT, PLAIN, begins)


@given(st.binary())
def test_of_what_is_compressed_and_of_other_apis_nothing_can_be_told(begins):
    for require in (require_answer, require_stream):
        require(WEST, CHAT, PACKED, begins)
        require(WEST, OTHER, PLAIN, begins)

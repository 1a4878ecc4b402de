"""Compressed or not, a message is read as it was meant."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router._pb.inference_pb2 import ModelInferRequest
from router.errors import MalformedRequestError, MessageTooLargeError
from router.gateway.inflate import inflate, is_compressed
from tests.gateway.support import infer_request


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
@given(plain=st.binary(max_size=2000))
def test_what_was_packed_is_unpacked(pack, plain):
    packed = pack(plain)
    assert is_compressed(packed)
    assert inflate(packed, 2000) == plain


def test_requests_as_clients_write_them_are_not_taken_for_compressed():
    assert not is_compressed(infer_request().SerializeToString())
    assert not is_compressed(b"")
    assert not is_compressed(b"\x78")


@given(st.integers(0, 255), st.binary(max_size=60))
def test_a_message_that_only_looks_like_it_is_left_as_it_is(second, rest):
    message = bytes((0x78, second)) + rest
    if is_compressed(message):
        try:
            zlib.decompress(message)
        except zlib.error:
            assert inflate(message, 100) == message


def test_no_more_is_made_than_is_allowed():
    with pytest.raises(MessageTooLargeError):
        inflate(gzip.compress(bytes(1001)), 1000)


@pytest.mark.parametrize("cut", [3, 12, -1])
def test_damaged_gzip_data_is_malformed(cut):
    with pytest.raises(MalformedRequestError):
        inflate(gzip.compress(b"some text")[:cut], 1000)


def test_a_field_that_starts_like_a_zlib_stream_is_still_a_field():
    message = b"\x78\x9c\x01" + ModelInferRequest(model_name="m").SerializeToString()
    assert inflate(message, 1000) == message

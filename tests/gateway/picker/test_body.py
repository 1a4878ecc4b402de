import asyncio

import pytest

from router._pb import ext_proc_pb2 as pb
from router.errors import GatewayFullError, MessageTooLargeError, RequestStalledError
from router.gateway.capacity import Capacity
from router.gateway.picker.body import BodyReader
from router.gateway.picker.talk import OutOfTurnError

STALLS = object()


class Said:
    """A proxy that has said so much."""

    peer = "ipv4:127.0.0.1:1"

    def __init__(self, *messages):
        self.left = list(messages)

    async def next(self):
        one = self.left.pop(0) if self.left else None
        if one is STALLS:
            await asyncio.Event().wait()
        return one


def piece(body, last=False):
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=last))


TRAILERS = pb.ProcessingRequest(request_trailers=pb.HttpTrailers())


@pytest.fixture
def capacity():
    return Capacity(10, 100)


@pytest.mark.parametrize(
    ("messages", "in_one_piece", "expected"),
    [
        ([piece(b"ab"), piece(b"c", True)], False, ([b"ab", b"c"], False)),
        ([piece(b"ab"), TRAILERS], False, ([b"ab"], True)),
        ([piece(b"ab"), piece(b"c", True)], True, ([b"ab"], False)),
        ([piece(b"ab")], False, None),
    ],
)
async def test_a_body_is_what_came_until_its_end(capacity, messages, in_one_piece, expected):
    reader = BodyReader(Said(*messages), capacity, 50)
    found = await reader.read(in_one_piece)
    assert found == expected
    assert capacity.held_bytes == sum(map(len, found.pieces)) if found else 2
    reader.release()
    reader.release()
    assert capacity.held_bytes == 0


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([piece(b"a" * 51)], MessageTooLargeError),
        ([piece(b"a" * 40), piece(b"a" * 11)], MessageTooLargeError),
        ([piece(b"a"), STALLS], RequestStalledError),
        ([STALLS], RequestStalledError),
        ([pb.ProcessingRequest(response_body=pb.HttpBody(body=b"a"))], OutOfTurnError),
        ([pb.ProcessingRequest()], OutOfTurnError),
    ],
)
async def test_what_cannot_be_taken_in_is_told_and_given_up(capacity, messages, error):
    reader = BodyReader(Said(*messages), capacity, 50, stalled_s=0.01)
    with pytest.raises(error):
        await reader.read(False)
    reader.release()
    assert capacity.held_bytes == 0


async def test_a_body_that_never_ends_is_given_up_though_it_goes_on(capacity):
    reader = BodyReader(Said(piece(b"a"), piece(b"a", True)), capacity, 50, whole_s=-1.0)
    with pytest.raises(RequestStalledError):
        await reader.read(False)


async def test_no_more_is_held_than_a_process_may(capacity):
    capacity.hold(90)
    reader = BodyReader(Said(piece(b"a" * 20, True)), capacity, 50)
    with pytest.raises(GatewayFullError):
        await reader.read(False)

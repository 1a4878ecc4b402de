"""Calls, bytes and headers within their limits; and that nothing stays counted."""

import asyncio
import zlib

import grpc
import pytest

from router.clock import WallClock
from router.errors import (
    GatewayFullError,
    MalformedRequestError,
    MessageTooLargeError,
    MetadataTooLargeError,
)
from router.gateway.oip.intake import Intake, IntakeLimits
from router.gateway.oip.resets import JUDGED_AFTER
from router.identity.access import open_access
from router.identity.principal import Role
from tests.gateway.support import soon

LIMITS = IntakeLimits(message_bytes=100, buffered_bytes=300, calls=8, metadata_bytes=200)


class Kernel:
    """Sockets that have received what a test says, and remember which were closed."""

    def __init__(self):
        self.received = {}
        self.closed = []

    def received_bytes(self, peer):
        return self.received.get(peer)

    def close(self, peer):
        self.closed.append(peer)
        return True


class Caller:
    """The server's end of a call, whose messages come when the test sends them."""

    def __init__(self, peer="ipv4:10.0.0.1:1"):
        self._peer = peer
        self.messages = asyncio.Queue()

    def peer(self):
        return self._peer

    async def read(self):
        return await self.messages.get()


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
async def intake(kernel):
    return Intake(LIMITS, kernel, open_access(WallClock()))


def enter(intake, *messages, peer="ipv4:10.0.0.1:1", metadata=(), most_bytes=0):
    caller = Caller(peer)
    for message in messages:
        caller.messages.put_nowait(message)
    return intake.enter(caller, metadata, Role.INFER, most_bytes)


async def test_a_message_is_held_until_it_is_released(intake):
    call = enter(intake, bytes(60), grpc.aio.EOF)
    assert await soon(call.message()) == bytes(60)
    assert intake.capacity.held_bytes == 60
    call.release(60)
    assert intake.capacity.held_bytes == 0
    assert await soon(call.message()) is None
    assert call.half_closed


async def test_leaving_gives_everything_back(intake):
    call = enter(intake, bytes(60))
    await soon(call.message())
    call.leave()
    assert (intake.capacity.held_bytes, intake.capacity.calls, call.connection.calls) == (0, 0, 0)
    assert call.connection.held_bytes == 0


async def test_calls_beyond_the_limit_are_refused(intake):
    calls = [enter(intake) for _ in range(LIMITS.calls)]
    with pytest.raises(GatewayFullError, match="8 calls") as refused:
        enter(intake)
    assert refused.value.retry_after_s
    calls[0].leave()
    enter(intake)


async def test_headers_beyond_the_limit_are_refused(intake):
    enter(intake, metadata=(("a", "b" * 100),))
    with pytest.raises(MetadataTooLargeError, match="more than 200"):
        enter(intake, metadata=(("a", "b" * 100), ("c", "d" * 50)))


@pytest.mark.parametrize(("most_bytes", "limit"), [(0, 100), (50, 50)])
async def test_a_message_beyond_the_limit_is_refused_and_not_held(intake, most_bytes, limit):
    call = enter(intake, bytes(limit + 1), bytes(limit), most_bytes=most_bytes)
    with pytest.raises(MessageTooLargeError):
        await soon(call.message())
    assert intake.capacity.held_bytes == 0
    assert len(await soon(call.message())) == limit


async def test_one_connection_may_hold_half_and_all_together_the_whole(intake):
    peers = ["ipv4:10.0.0.1:1", "ipv4:10.0.0.2:1", "ipv4:10.0.0.3:1"]
    for peer in peers:
        await soon(enter(intake, bytes(90), peer=peer).message())
    with pytest.raises(GatewayFullError):  # 180 of 150
        await soon(enter(intake, bytes(90), peer=peers[0]).message())
    with pytest.raises(GatewayFullError):  # 330 of 300
        await soon(enter(intake, bytes(60), peer="ipv4:10.0.0.4:1").message())
    assert intake.capacity.held_bytes == 270


async def test_a_stream_waits_while_it_holds_more_than_its_part(intake):
    call = enter(intake, bytes(90))
    await soon(call.message())
    waiting = asyncio.ensure_future(call.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    call.release(90)
    await soon(waiting)


async def test_a_stream_that_holds_nothing_reads_on_however_full_it_is(intake):
    await soon(enter(intake, bytes(90)).message())
    await soon(enter(intake, peer="ipv4:10.0.0.2:1").room())


async def test_messages_under_way_are_refused_when_they_are_too_much(intake, kernel):
    calls = [enter(intake) for _ in range(3)]
    reads = [asyncio.ensure_future(call.message()) for call in calls]
    await asyncio.sleep(0)
    for received in (1_000, 1_000 + 240):
        kernel.received[calls[0].connection.peer] = received
        intake.check()
    done, pending = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
    # 240 bytes of three messages where 150 may be: two of them have to go, the youngest.
    assert pending == {reads[0]}
    assert {type(read.exception()) for read in done} == {GatewayFullError}
    reads[0].cancel()


async def test_little_that_is_under_way_is_left_alone_for_as_long_as_it_takes(intake, kernel):
    call = enter(intake)
    read = asyncio.ensure_future(call.message())
    await asyncio.sleep(0)
    for received in range(0, 140, 10):
        kernel.received[call.connection.peer] = received
        intake.check()
    assert not read.done()
    read.cancel()


async def test_the_connection_that_has_most_under_way_loses_it_first(kernel):
    intake = Intake(LIMITS._replace(message_bytes=250), kernel, open_access(WallClock()))
    small = enter(intake, peer="ipv4:10.0.0.1:1")
    large = enter(intake, peer="ipv4:10.0.0.2:1")
    reads = {call: asyncio.ensure_future(call.message()) for call in (small, large)}
    await asyncio.sleep(0)
    for one, other in ((0, 0), (100, 240)):
        kernel.received = {small.connection.peer: one, large.connection.peer: other}
        intake.check()
    with pytest.raises(GatewayFullError):
        await soon(reads[large])
    assert not reads[small].done()
    reads[small].cancel()


async def test_a_caller_that_goes_away_while_a_message_comes_in_leaves_nothing(intake):
    call = enter(intake)
    read = asyncio.ensure_future(call.message())
    await asyncio.sleep(0)
    read.cancel()
    with pytest.raises(asyncio.CancelledError):
        await read
    call.leave()
    assert not call.connection.reading
    assert (intake.capacity.calls, intake.capacity.held_bytes) == (0, 0)


async def test_compressed_messages_are_inflated_within_the_limit(intake):
    plain = bytes(100)
    call = enter(intake, zlib.compress(plain))
    assert await soon(call.message()) == plain
    assert intake.capacity.held_bytes == 100


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (zlib.compress(bytes(101)), MessageTooLargeError),
        (b"\x1f\x8b" + bytes(20), MalformedRequestError),
    ],
)
async def test_compressed_messages_that_are_refused_are_not_held(intake, message, error):
    with pytest.raises(error):
        await soon(enter(intake, message).message())
    assert intake.capacity.held_bytes == 0


async def test_a_connection_that_takes_back_most_of_its_calls_is_closed(intake, kernel):
    async def taken_back():
        call = enter(intake, peer="ipv4:10.0.0.9:9")
        try:
            await call.message()
        finally:
            call.leave()

    for _ in range(JUDGED_AFTER):
        task = asyncio.ensure_future(taken_back())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert kernel.closed == ["ipv4:10.0.0.9:9"]


# Bytes on the wire


@pytest.mark.parametrize(("encrypted", "record"), [(False, 0), (True, 1_300), (True, 16_384)])
async def test_much_over_one_connection_does_not_look_like_a_message_under_way(
    kernel, encrypted, record
):
    """Frames, and records where there are any, are not taken for the beginning of another."""
    mib = 2**20
    limits = IntakeLimits(2**30, 2**31, 8, 200, encrypted)
    intake = Intake(limits, kernel, open_access(WallClock()))
    peer = "ipv4:10.0.0.1:1"
    kernel.received[peer] = 0
    # Of one that waits all along nothing has come.
    waiting = enter(intake, peer=peer)
    reading = asyncio.get_running_loop().create_task(waiting.message())
    await asyncio.sleep(0)
    intake.check()
    for _ in range(50):
        call = enter(intake, bytes(8 * mib), peer=peer)
        wire = 8 * mib + 8 * mib // 16_384 * 9
        kernel.received[peer] += wire + (wire // record * 22 if record else 0) + 100
        await soon(call.message())
        intake.check()
        call.leave()
    assert waiting.connection.unread_bytes < mib
    reading.cancel()
    waiting.leave()

"""The relay does what its ways say: a fault that does not happen proves nothing."""

import asyncio
import contextlib

import pytest

from tests.e2e.faults.relay import Relay, Way
from tests.e2e.harness import port_of
from tests.ports import free_ports

SILENCE_S = 0.5


@pytest.fixture
async def relay():
    """A relay before a server that gives back what comes."""

    async def echo(reader, writer):
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                writer.write(data)

    address, behind = (f"127.0.0.1:{port}" for port in free_ports(2))
    async with await asyncio.start_server(echo, "127.0.0.1", port_of(behind)):
        made = Relay(address, behind)
        made.address = address
        await made.become(Way.PASS)
        yield made
        await made.close()


async def connected(relay):
    return await asyncio.open_connection("127.0.0.1", port_of(relay.address))


async def said(reader, writer, data=b"hello"):
    """What comes back within half a second; "reset" where the connection is."""
    try:
        writer.write(data)
        async with asyncio.timeout(SILENCE_S):
            return await reader.readexactly(len(data))
    except TimeoutError:
        return "nothing"
    except asyncio.IncompleteReadError as error:
        return error.partial or "end"
    except ConnectionError:
        return "reset"


async def test_bytes_pass(relay):
    reader, writer = await connected(relay)
    assert await said(reader, writer) == b"hello"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("way", "old", "new"),
    [
        (Way.REFUSE, {"reset"}, "refused"),
        (Way.RESET, {"reset"}, {"reset"}),
        (Way.HOLD, {"nothing"}, {"nothing"}),
        (Way.DROP, {"nothing"}, "unanswered"),
        (Way.TRICKLE, {"nothing"}, {"nothing"}),
    ],
)
async def test_open_connections_and_new_ones_share_the_fate(relay, way, old, new):
    before = await connected(relay)
    assert await said(*before) == b"hello"
    await relay.become(way)
    assert await said(*before, b"x" * 100) in old
    if new == "refused":
        with pytest.raises(ConnectionRefusedError):
            await connected(relay)
    elif new == "unanswered":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                await connected(relay)
    else:
        after = await connected(relay)
        assert await said(*after, b"x" * 100) in new
        after[1].close()
    await relay.become(Way.PASS)
    again = await connected(relay)
    assert await said(*again) == b"hello"
    for _, writer in (before, again):
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

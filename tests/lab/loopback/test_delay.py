import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from router.lab.loopback.children import free_ports
from router.lab.loopback.delay import Relay

RTT_MS = 40.0
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@asynccontextmanager
async def relayed(answer: Answer) -> AsyncIterator[int]:
    """A server that calls ``answer``, behind a relay; the relay's port."""
    (port,) = free_ports(1)
    async with asyncio.TaskGroup() as tasks:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.create_task(answer(reader, writer))

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            server_port = server.sockets[0].getsockname()[1]
            relaying = tasks.create_task(Relay(port, server_port, RTT_MS).serve())
            yield port
            relaying.cancel()


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Once it listens."""
    async with asyncio.timeout(10.0):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(1024):
        writer.write(piece)
    writer.close()


async def test_every_byte_comes_back_in_order_a_round_trip_later() -> None:
    loop = asyncio.get_running_loop()
    async with relayed(echo) as port:
        reader, writer = await connected(port)
        for piece in (b"one", b"two"):
            sent_at = loop.time()
            writer.write(piece)
            assert await reader.readexactly(3) == piece
            assert loop.time() - sent_at >= RTT_MS / 1e3
        writer.close()
        await writer.wait_closed()


async def test_the_end_of_what_a_client_sends_reaches_the_server() -> None:
    async with relayed(echo) as port:
        reader, writer = await connected(port)
        writer.write(b"last")
        writer.write_eof()
        assert await reader.read() == b"last"
        writer.close()
        await writer.wait_closed()


async def test_a_server_that_closes_closes_its_clients_connection() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"no")
        writer.close()

    async with relayed(refuse) as port:
        reader, writer = await connected(port)
        assert await reader.read() == b"no"
        writer.close()
        await writer.wait_closed()


async def test_without_a_server_a_connection_is_closed() -> None:
    port, server_port = free_ports(2)
    async with asyncio.TaskGroup() as tasks:
        relaying = tasks.create_task(Relay(port, server_port, RTT_MS).serve())
        reader, writer = await connected(port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        relaying.cancel()

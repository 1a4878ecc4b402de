"""Distance on loopback: a relay before a server that holds every byte half a round trip each way.

Imports nothing but the standard library: it runs inside a server's process, in that one's Python.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

_PIECE_BYTES = 65536


class Relay(NamedTuple):
    """``port``: where it listens; ``server_port``: where the server does. Both on 127.0.0.1.
    ``rtt_ms``: the round trip that it stands for.

    A connection opens without delay, as one that is kept open between two requests would be.
    """

    port: int
    server_port: int
    rtt_ms: float

    async def serve(self) -> None:
        """Relay until cancelled; then every connection is closed."""
        async with asyncio.TaskGroup() as tasks:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tasks.create_task(self._connection(reader, writer))

            async with await asyncio.start_server(accept, "127.0.0.1", self.port) as listening:
                await listening.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        half_s = self.rtt_ms / 2e3
        with contextlib.closing(writer):
            try:
                there = await asyncio.open_connection("127.0.0.1", self.server_port)
            except OSError:
                return
            with contextlib.closing(there[1]), contextlib.suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_carry(reader, there[1], half_s))
                    await _carry(there[0], writer, half_s)
                    # The server has closed: whatever its client still says reaches nobody.
                    raise ConnectionResetError


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float
) -> None:
    """Write what is read, each piece ``delay_s`` after it came; at its end, end the other side."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def take() -> None:
        while piece := await reader.read(_PIECE_BYTES):
            under_way.put_nowait((loop.time() + delay_s, piece))
        under_way.put_nowait((loop.time() + delay_s, b""))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take())
        while True:
            due, piece = await under_way.get()
            await asyncio.sleep(due - loop.time())
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()

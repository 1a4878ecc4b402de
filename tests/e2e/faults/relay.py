"""A relay before a server, for what networks do to connections, and servers' own ends of them."""

import asyncio
import contextlib
import socket
import struct
import threading
from enum import Enum

from tests.e2e.harness import port_of

_PIECE_BYTES = 65_536
_TRICKLE_S = 0.1
_HANG_UP = struct.pack("ii", 1, 0)  # SO_LINGER for no time: a close is a reset


class Way(Enum):
    """What becomes of connections. Of all but PASS those that are open share the fate."""

    PASS = "bytes pass"
    REFUSE = "nobody listens"
    RESET = "each is reset once something was said on it"
    HOLD = "bytes are taken, and nothing comes back"
    DROP = "not even the first packet is answered"
    TRICKLE = "a byte comes back now and then"


class Relay:
    """From ``address`` to ``behind``, both on this machine. To be used on one event loop."""

    def __init__(self, address, behind):
        self.way = Way.REFUSE
        self._port, self._behind = port_of(address), port_of(behind)
        self._server = None
        self._deaf = []
        self._passing = asyncio.Event()
        self._writers = set()
        self._tasks = set()

    async def become(self, way):
        """Change what becomes of connections, at once."""
        before, self.way = self.way, way
        if before is Way.DROP:
            for one in self._deaf:
                one.close()
            self._deaf = []
        if way in (Way.REFUSE, Way.DROP):
            await self._stop_listening()
        if way in (Way.REFUSE, Way.RESET):
            self._hang_up()
        if way is Way.DROP:
            self._deaf = _deaf_port(self._port)
        elif way is not Way.REFUSE and self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        if way in (Way.HOLD, Way.DROP):
            self._passing.clear()
        else:
            self._passing.set()

    def redirect(self, behind):
        """Have another server there, as after a restart: those who are connected begin anew."""
        self._behind = port_of(behind)
        self._hang_up()

    async def close(self):
        """End every connection and free the port."""
        await self.become(Way.REFUSE)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _stop_listening(self):
        if self._server is not None:
            self._server.close()
            self._server = None

    def _hang_up(self):
        for writer in list(self._writers):
            _reset(writer)

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._carry(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _carry(self, reader, writer):
        if self.way is Way.RESET:
            await reader.read(1)
            _reset(writer)
            return
        await self._passing.wait()
        there, thither = await asyncio.open_connection("127.0.0.1", self._behind)
        self._writers.add(thither)
        try:
            ends = [
                asyncio.ensure_future(self._pump(reader, thither)),
                asyncio.ensure_future(self._pump(there, writer, back=True)),
            ]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
                await asyncio.gather(*ends, return_exceptions=True)
        finally:
            self._writers.discard(thither)
            thither.close()

    async def _pump(self, reader, writer, back=False):
        while data := await reader.read(_PIECE_BYTES):
            await self._passing.wait()
            while back and data and self.way is Way.TRICKLE:
                writer.write(data[:1])
                data = data[1:]
                await asyncio.sleep(_TRICKLE_S)
            writer.write(data)
            await writer.drain()


def _reset(writer):
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _HANG_UP)
    writer.transport.abort()


def _deaf_port(port):
    """Sockets that keep a port's queue full: the kernel drops what else comes."""
    held = [socket.socket()]
    held[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held[0].bind(("127.0.0.1", port))
    held[0].listen(0)
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            one.connect(("127.0.0.1", port))
        held.append(one)
    return held


class Relays:
    """Relays by name on an event loop of their own, so that they outlive those of tests."""

    def __init__(self, places):
        """``places``: (address, behind) by name. All pass when it returns."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays")
        self._thread.start()
        self._relays = self._wait(self._start(places))

    async def _start(self, places):
        made = {name: Relay(*place) for name, place in places.items()}
        for relay in made.values():
            await relay.become(Way.PASS)
        return made

    def _wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30.0)

    def become(self, name, way):
        """Change one relay's way; it is in force on return."""
        self._wait(self._relays[name].become(way))

    def close(self):
        """End them all."""
        for relay in self._relays.values():
            self._wait(relay.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30.0)
        self._loop.close()

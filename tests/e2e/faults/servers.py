"""Servers of either protocol that say ready, and do with requests what a test wants.

They run on the test's own event loop, so that what they see has the times of the test's clock.
"""

import asyncio
import contextlib

import aiohttp
import grpc
from aiohttp import web

from router._pb import inference_pb2 as pb
from tests.e2e.harness import SERVICE, port_of

# As router.lab.emulator has it: neither protobuf, JSON nor UTF-8.
GARBAGE = b"\xff\xff\xff\xff garbage"
_GRPC_OF = {
    400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 422: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 502: "UNKNOWN",
    503: "UNAVAILABLE",
}  # fmt: skip


class _Doing:
    """``does``: "answer", "hang", "garbage", "nothing", "page" (HTML for an answer), "tell" (an
    error within the answer) or an HTTP status, which gRPC has a word for. ``pause_s``: before it
    does so. ``calls``: so far; ``live``: now; ``most``: ever at once; ``gone_at``: when calls were
    cancelled, by the loop's clock.
    """

    def __init__(self, address):
        self.address = address
        self.does = "answer"
        self.pause_s = 0.0
        self.calls = self.live = self.most = 0
        self.gone_at = []
        self._broken = asyncio.Event()

    def break_all(self, status):
        """End every pause at once, and answer that with an error."""
        self.does = status
        self._broken.set()

    @contextlib.asynccontextmanager
    async def _call(self):
        self.calls += 1
        self.live += 1
        self.most = max(self.most, self.live)
        try:
            if self.pause_s:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.pause_s):
                        await self._broken.wait()
            if self.does == "hang":
                await asyncio.Event().wait()
            yield
        except asyncio.CancelledError:
            self.gone_at.append(asyncio.get_running_loop().time())
            raise
        finally:
            self.live -= 1


class OipServer(_Doing):
    """Over gRPC."""

    async def start(self):
        """Listen on the address, which nobody else may."""
        self._server = server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        unary = grpc.unary_unary_rpc_method_handler
        handlers = {
            "ModelInfer": unary(self._infer), "ServerReady": unary(self._ready),
            "ModelReady": unary(self._ready),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream),
        }  # fmt: skip
        service = SERVICE.strip("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        server.add_insecure_port(self.address)
        await server.start()

    async def stop(self, grace_s=None):
        """Hang up; with ``grace_s`` only after calls have ended, and no more are taken (GOAWAY)."""
        await self._server.stop(grace_s)

    async def _infer(self, payload, context):
        async with self._call():
            await self._refuse(context)
            if self.does == "garbage":
                return GARBAGE
            if self.does in ("nothing", "page"):
                return b""
            return _answer().SerializeToString()

    async def _stream(self, payloads, context):
        async for _ in payloads:
            async with self._call():
                await self._refuse(context)
                if self.does in ("garbage", "page"):
                    await context.write(GARBAGE)
                    return
                told = "failed to run" if self.does == "tell" else ""
                message = pb.ModelStreamInferResponse(infer_response=_answer(), error_message=told)
                await context.write(message.SerializeToString())

    async def _refuse(self, context):
        if isinstance(self.does, int):
            await context.abort(grpc.StatusCode[_GRPC_OF[self.does]], "CUDA error")

    async def _ready(self, payload, context):
        return pb.ServerReadyResponse(ready=True).SerializeToString()


def _answer():
    return pb.ModelInferResponse(model_name="m", id="r1")


class HttpServer(_Doing):
    """Over OpenAI's HTTP."""

    async def start(self):
        """Listen on the address, which nobody else may."""
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._health)
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=5.0
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port_of(self.address)).start()

    async def stop(self, grace_s=None):
        """Hang up; with ``grace_s`` only after calls have ended, and no more are taken."""
        if grace_s is None:
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
        await self._accept_no_more()
        await self._runner.cleanup()

    async def _accept_no_more(self):
        """A connection that was accepted and is not yet a transport when its listener closes is
        left open by asyncio before Python 3.12."""
        loop = asyncio.get_running_loop()
        for site in self._runner.sites:
            for listener in site._server.sockets:
                loop.remove_reader(listener.fileno())
        for _ in range(3):
            await asyncio.sleep(0)

    async def _health(self, request):
        return web.json_response({"data": []})

    async def _chat(self, request):
        asked = await request.json()
        async with self._call():
            if isinstance(self.does, int):
                error = {"message": "CUDA error", "type": "server_error", "code": None}
                return web.json_response({"error": error}, status=self.does)
            if asked.get("stream"):
                return await self._events(request)
            return self._whole()

    def _whole(self):
        if self.does == "garbage":
            return web.Response(body=GARBAGE, content_type="application/json")
        if self.does == "nothing":
            return web.Response(content_type="application/json")
        if self.does == "page":
            return web.Response(text="<html>Welcome</html>", content_type="text/html")
        if self.does == "tell":
            return web.json_response({"error": {"message": "failed to run", "code": 500}})
        message = {"role": "assistant", "content": "well"}
        usage = {"prompt_tokens": 8, "completion_tokens": 4}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"object": "chat.completion", "choices": [choice], "usage": usage})

    async def _events(self, request):
        response = web.StreamResponse()
        response.content_type = "text/html" if self.does == "page" else "text/event-stream"
        await response.prepare(request)
        choice = b'data: {"choices":[{"index":0,"delta":{"content":"well"}}]}\n\n'
        said = {
            "garbage": GARBAGE + b"\n\n", "nothing": b"", "page": b"<html>Welcome</html>",
            "tell": b'data: {"error":{"message":"failed to run","code":500}}\n\n',
        }.get(self.does, choice * 4 + b"data: [DONE]\n\n")  # fmt: skip
        await response.write(said)
        await response.write_eof()
        return response


SERVERS = {"oip": OipServer, "openai": HttpServer}


@contextlib.asynccontextmanager
async def serving(endpoints):
    """A server of its protocol for each of these endpoints of a configuration, by name."""
    made = {one["name"]: SERVERS[one["protocol"]](one["address"]) for one in endpoints}
    async with contextlib.AsyncExitStack() as stack:
        for server in made.values():
            await server.start()
            stack.push_async_callback(_stopped, server)
        yield made


async def _stopped(server):
    with contextlib.suppress(aiohttp.ClientError):
        await server.stop()

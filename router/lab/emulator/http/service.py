"""OpenAI's and Anthropic's HTTP, answered by emulated replicas in real time.

Energy truth travels in the header ``endpoint-load-metrics``, of streams in a comment before the
event that ends them. A client that goes away, or that closes its half of the connection, ends its
request at once. What else an endpoint of OpenAI's serves by model is not emulated: 404.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from aiohttp import web

from router.clock import WallClock
from router.http_api import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, HttpApi, api_of
from router.lab.emulator import metrics
from router.lab.emulator.cost import ORCA_FORMAT, ORCA_TEXT, RequestCost
from router.lab.emulator.emulation import (
    GARBAGE,
    ORIGIN_HEADER,
    EmulatedModel,
    Emulation,
    Listening,
    Passage,
    hang,
)
from router.lab.emulator.faults import FAULT_HEADER, EmulatedFault, FaultKind, http_status
from router.lab.emulator.guard import asking_for_key
from router.lab.emulator.http import openai
from router.lab.emulator.http.anthropic import MessageReply
from router.lab.emulator.http.asked import HttpAsk, inputs_of, parse, read
from router.lab.emulator.http.openai import ChatReply, CompletionReply
from router.lab.emulator.http.refusals import ErrorAnswer
from router.lab.emulator.http.reply import AnswerText, Reply, TokenCounts
from router.lab.emulator.http.responses import KeptResponse, ResponseMemory, ResponseReply
from router.lab.emulator.http.shape import (
    COUNT_TOKENS_PATH,
    EMULATED,
    headers_of,
    in_shape,
    json_answer,
)
from router.lab.replay.replica import Ended

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_REPLIES: Final[Mapping[HttpApi, type[Reply]]] = {
    CHAT: ChatReply,
    COMPLETIONS: CompletionReply,
    RESPONSES: ResponseReply,
    MESSAGES: MessageReply,
}


async def listen(emulation: Emulation, address: str) -> Listening:
    """Serve an endpoint on ``address``; raises OSError where it cannot be listened on."""
    runner = web.AppRunner(
        HttpService(emulation, WallClock().now).app(),
        handler_cancellation=True,
        access_log=None,
        # Handlers end as their connections are dropped; only a defect reaches it.
        shutdown_timeout=1.0,
    )
    await runner.setup()
    # urlsplit knows the brackets of IPv6.
    where = urlsplit(f"//{address}")
    try:
        tls = emulation.guard.tls
        context = tls.context() if tls is not None else None
        await web.TCPSite(runner, where.hostname, where.port, ssl_context=context).start()
    except OSError:
        await runner.cleanup()
        raise

    async def stop() -> None:
        assert runner.server is not None
        # Dropped, not closed: nobody may take what was not finished for an end.
        for connection in runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    return Listening(runner.addresses[0][1], stop)


class _Call(NamedTuple):
    """One request that is to run. ``before``: the conversation that it goes on with."""

    request: web.Request
    asked: HttpAsk
    model: EmulatedModel
    fault: EmulatedFault | None
    before: bytes = b""

    def has(self, kind: FaultKind) -> bool:
        """Whether it shows this fault."""
        return self.fault is not None and self.fault.kind is kind


class HttpService:
    """Answers for one endpoint. ``now``: unix seconds, of answers' ``created``."""

    def __init__(self, emulation: Emulation, now: Callable[[], float]) -> None:
        self._emulation = emulation
        self._now = now
        self._memory = ResponseMemory()

    def app(self) -> web.Application:
        """The routes."""
        asked = asking_for_key(self._emulation.guard)
        app = web.Application(middlewares=[in_shape, asked], client_max_size=MAX_BODY_BYTES)
        app.router.add_routes(
            [
                web.get("/health", self._health),
                web.get(metrics.own_path(self._emulation.endpoint), self._metrics),
                web.get("/v1/models", self._models),
                *(web.post(api.path, self._generate) for api in _REPLIES),
                web.post(EMBEDDINGS.path, self._embed),
                web.post(COUNT_TOKENS_PATH, self._count_tokens),
                web.get(f"{RESPONSES.path}/{{id}}", self._kept_response),
                web.delete(f"{RESPONSES.path}/{{id}}", self._forget_response),
            ]
        )
        return app

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        machines = {model.name: model.machine for model in self._emulation.models.values()}
        return web.Response(text=metrics.render(machines, self._emulation.lag), headers=EMULATED)

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.Response(headers=EMULATED)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        data: list[dict[str, Any]] = []
        for model in self._emulation.models.values():
            about = {"id": model.name, "object": "model", "created": 0, "owned_by": "emulated"}
            if model.context_tokens < float("inf"):
                about["max_model_len"] = int(model.context_tokens)
            data.append(about)
        return json_answer(request, {"object": "list", "data": data})

    async def _count_tokens(self, request: web.Request) -> web.StreamResponse:
        # Nothing is answered, so the limit that messages must have is not asked for.
        body = {"max_tokens": 1, **parse(await request.read())}
        asked = read(MESSAGES, body)
        self._require(asked.model)
        return json_answer(request, {"input_tokens": int(asked.work.input_tokens)})

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        asked = read(EMBEDDINGS, parse(await request.read()))
        openai.embedding_form(asked)
        # Whatever is embedded, an answer is one unit of work after the prompt.
        asked = asked._replace(work=asked.work._replace(output_tokens=1.0))
        inputs = inputs_of(asked.body["input"], "input")
        call = await self._admit(request, asked)

        def body(text: str, counts: TokenCounts) -> dict[str, Any]:
            return openai.embeddings(asked, inputs, counts)

        return await self._whole(call, body)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        api = api_of(request.path)
        body = parse(await request.read())
        before = self._conversation(body) if api is RESPONSES else b""
        call = await self._admit(request, read(api, body, before))
        reply = _REPLIES[api](call.asked, self._now())
        call = call._replace(before=before)
        if call.asked.streams:
            return await self._stream(call, reply)

        def whole(text: str, counts: TokenCounts) -> dict[str, Any]:
            self._keep(call, reply, text, counts)
            return reply.whole(text, counts)

        return await self._whole(call, whole, reply)

    async def _admit(self, request: web.Request, asked: HttpAsk) -> _Call:
        """Find its model, and show the faults that show before any work is done."""
        model = self._require(asked.model)
        try:
            fault = self._emulation.fault(request.headers.get(FAULT_HEADER))
        except ValueError as error:
            raise ErrorAnswer(400, str(error)) from error
        call = _Call(request, asked, model, fault)
        if call.has(FaultKind.HANG):
            await hang()
        if fault is not None and fault.kind is FaultKind.CODE:
            raise ErrorAnswer(http_status(fault.code), f"emulated {fault.code}")
        return call

    async def _whole(
        self,
        call: _Call,
        body: Callable[[str, TokenCounts], dict[str, Any]],
        reply: Reply | None = None,
    ) -> web.StreamResponse:
        """Run it, then answer with ``body`` of the text and what it took."""
        async with AsyncExitStack() as stack:
            passage = await self._enter(stack, call)
            record = await passage.ended()
        if call.has(FaultKind.GARBAGE):
            return web.Response(body=GARBAGE, content_type="application/json", headers=EMULATED)
        text = AnswerText(
            self._emulation.text(call.model, record.output_tokens), passage.output_tokens
        )
        if reply is not None and self._emulation.tells_times:
            reply.told = record
        answer = body(text.between(0, text.tokens), TokenCounts.of(record))
        most = call.model.profile.max_batch
        cost = RequestCost.of([record], most)
        if ORCA_FORMAT in call.request.headers:
            replica = call.model.machine.settle()
            cost = cost.beside(float(replica.queued), replica.running / most)
        return json_answer(call.request, answer, {ORCA_TEXT: cost.as_json()})

    async def _stream(self, call: _Call, reply: Reply) -> web.StreamResponse:
        """Events as the machine makes tokens; cut by a fault, they end as if all were well."""
        async with AsyncExitStack() as stack:
            passage = await self._enter(stack, call)
            response = web.StreamResponse(headers=headers_of(call.request))
            response.content_type = "text/event-stream"
            response.charset = "utf-8"
            # As servers do that stream: the headers go out before the prompt is read.
            await passage.accepted()
            await response.prepare(call.request)
            await self._events(call, reply, passage, response)
        await response.write_eof()
        return response

    async def _events(
        self, call: _Call, reply: Reply, passage: Passage, response: web.StreamResponse
    ) -> None:
        text = AnswerText(
            self._emulation.text(call.model, passage.output_tokens), passage.output_tokens
        )
        input_tokens, made, last = call.asked.work.input_tokens, 0, False
        while not last:
            event = await passage.next()
            if event is None:
                return
            last = isinstance(event, Ended)
            now = text.tokens if isinstance(event, Ended) else event.made
            counts = TokenCounts(int(input_tokens), int(event.cached_tokens), now)
            said = b"" if made else reply.opening(counts)
            said += reply.piece(text.between(made, now))
            if call.has(FaultKind.GARBAGE):
                said = GARBAGE + b"\n\n"
            made = now
            if isinstance(event, Ended):
                said += self._ending(call, reply, text.between(0, now), event)
            await response.write(said)

    def _ending(self, call: _Call, reply: Reply, text: str, record: Ended) -> bytes:
        counts = TokenCounts.of(record)
        if self._emulation.tells_times:
            reply.told = record
        self._keep(call, reply, text, counts)
        before, end = reply.closing(text, counts)
        cost = RequestCost.of([record], call.model.profile.max_batch)
        return before + cost.as_comment() + end

    async def _enter(self, stack: AsyncExitStack, call: _Call) -> Passage:
        """Have it run until ``stack`` unwinds."""
        asked = call.asked
        try:
            return await stack.enter_async_context(
                self._emulation.passage(
                    call.model,
                    asked.work,
                    call.request.headers.get(ORIGIN_HEADER),
                    call.fault,
                    streams=asked.streams,
                )
            )
        except ValueError as error:
            raise ErrorAnswer(400, str(error)) from error

    def _require(self, name: str) -> EmulatedModel:
        model = self._emulation.find(name)
        if model is None:
            raise ErrorAnswer(404, f"The model `{name}` does not exist.", "model")
        return model

    def _conversation(self, body: dict[str, Any]) -> bytes:
        """What a request for a response goes on with."""
        if body.get("background"):
            raise ErrorAnswer(400, "background: an emulated server answers at once", "background")
        previous = body.get("previous_response_id")
        return b"" if previous is None else self._known(str(previous)).conversation

    def _known(self, response_id: str) -> KeptResponse:
        kept = self._memory.get(response_id)
        if kept is None:
            raise ErrorAnswer(404, f"Response with id '{response_id}' not found.", "response_id")
        return kept

    def _keep(self, call: _Call, reply: Reply, text: str, counts: TokenCounts) -> None:
        body = call.asked.body
        if call.asked.api is RESPONSES and body.get("store") is not False:
            said = call.before + call.asked.said + f"assistant: {text}\n".encode()
            self._memory.keep(KeptResponse(reply.whole(text, counts), said))

    async def _kept_response(self, request: web.Request) -> web.StreamResponse:
        return json_answer(request, self._known(request.match_info["id"]).body)

    async def _forget_response(self, request: web.Request) -> web.StreamResponse:
        response_id = request.match_info["id"]
        self._known(response_id)
        self._memory.forget(response_id)
        return json_answer(request, {"id": response_id, "object": "response", "deleted": True})

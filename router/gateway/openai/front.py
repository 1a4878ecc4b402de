"""The HTTP front: which path asks what, and each call's way to its answer or its refusal."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote

import msgspec
from aiohttp import web

from router.director import Call, Director
from router.errors import (
    DrainingError,
    MalformedRequestError,
    UnknownHostError,
    UnknownMethodError,
    UnknownModelError,
    UnknownResponseError,
    UnsupportedMethodError,
)
from router.gateway.capacity import Capacity
from router.gateway.cut_answers import settle_cut
from router.gateway.failures import Failures
from router.gateway.holding import Holding, Waited, patience_s
from router.gateway.openai import answering
from router.gateway.openai.answering import Manner
from router.gateway.openai.calls import (
    PROTOCOL,
    Incoming,
    PreparedCall,
    held_by,
    incoming,
    prepared,
    require_held,
    response_in,
)
from router.gateway.openai.deferred.api import DeferredApi, DeferredParts
from router.gateway.openai.deferred.background import is_background_id
from router.gateway.openai.ending import CallEnding
from router.gateway.openai.intake import IncomingBody
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.openai.peer import peer_of
from router.gateway.openai.receipts_api import KEYS, RECEIPTS, ReceiptsApi, ReceiptSources
from router.http_api import (
    APIS,
    MESSAGES,
    OTHER,
    PASSED_THROUGH,
    RESPONSES,
    STATUS,
    HttpApi,
    api_of,
)
from router.identity.access import Access
from router.identity.limits import Use, used_tokens
from router.identity.narrowing import (
    RegionMask,
    held_tenant,
    require_model,
    sequence_owner,
)
from router.identity.principal import Role
from router.model import Request
from router.telemetry.own_names import is_own_name

_MODELS: Final = "/v1/models"
# Questions about a prompt, which one healthy server of the model answers.
_COUNTS: Final = {"/v1/messages/count_tokens": MESSAGES, "/v1/responses/input_tokens": RESPONSES}
_STORED: Final = re.compile(r"/v1/responses/([^/]{1,256})(/cancel|/input_items)?")
# As servers read it in a query: all else may be true to one of them.
_NO_STREAM: Final = frozenset(("", "0", "false", "f", "no", "n", "off"))
_HEALTH: Final = frozenset(("/health", "/healthz", "/ping"))
_PATH: Final = re.compile(r"/[!-~]*")


class Limits(NamedTuple):
    """``body_bytes``: of one request; ``header_bytes``: of its fields."""

    body_bytes: int
    header_bytes: int


def needed_role(path: str) -> Role | None:
    """The role that a path takes; None: anybody may ask. Whatever is not named here takes one."""
    if path in _HEALTH or path == KEYS:
        return None
    is_receipt = path == RECEIPTS or path.startswith(RECEIPTS + "/")
    return Role.RECEIPTS if is_receipt else Role.INFER


def served_paths() -> list[tuple[str, str]]:
    """(method, an example of the path) of all that is served, so that a test can walk it."""
    posts = [*(api.path for api in APIS), *PASSED_THROUGH, *_COUNTS]
    gets = [*_HEALTH, _MODELS, f"{_MODELS}/llama", RECEIPTS, f"{RECEIPTS}/gw-1", KEYS]
    stored = "/v1/responses/resp_1"
    return [
        *(("POST", path) for path in sorted(posts)),
        *(("GET", path) for path in sorted(gets)),
        ("GET", stored), ("DELETE", stored), ("POST", f"{stored}/cancel"),
        ("GET", f"{stored}/input_items"),
    ]  # fmt: skip


class FrontParts(NamedTuple):
    """What calls are served with. ``access``: who may call; ``models``: name -> whether a healthy
    endpoint serves it; ``tells_energy``: whether answers of a tenant state their energy unasked;
    ``paths``: further ones that are passed through; ``started_at``: unix s; ``sources``: of
    receipts that are in no memory, and of their signatures; ``deferred``: None where no work is
    deferred; ``names``: by which it is called where nothing else keeps a page of a stranger's out
    of a browser here, None where anything may. ``holding``: of requests that may wait,
    None where none may."""

    director: Director
    capacity: Capacity
    access: Access
    receipts: KeptReceipts
    failures: Failures
    ready: Callable[[], bool]
    models: Callable[[], Mapping[str, bool]]
    tells_energy: Callable[[str], bool]
    paths: Callable[[], Collection[str]]
    started_at: float
    sources: ReceiptSources = ReceiptSources()
    deferred: DeferredParts | None = None
    names: Collection[str] | None = None
    holding: Holding | None = None


class Front:
    """Answers every HTTP call of one gateway."""

    def __init__(self, parts: FrontParts, limits: Limits) -> None:
        self._parts = parts
        self._limits = limits
        self._director = parts.director
        self._receipts = ReceiptsApi(parts.receipts, parts.sources)
        self._deferred = (
            DeferredApi(parts.deferred, parts.capacity, self._regions) if parts.deferred else None
        )
        self._under_way: dict[asyncio.Task[object], CallEnding] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One call; cancelled when its client goes away."""
        path = request.raw_path.partition("?")[0]
        api = api_of(path)
        # A refusal has the shape of the API that was meant.
        shape = MESSAGES if path.startswith(MESSAGES.path) else api
        ending = CallEnding(
            self._parts.failures, api.name if api is not OTHER else path[:64], shape
        )
        task = asyncio.current_task()
        assert task is not None
        self._under_way[task] = ending
        try:
            return await self._answer(request, path, api, ending)
        except (asyncio.CancelledError, ConnectionError) as gone:
            cut = ending.cut_by(task)
            if cut is None:
                ending.cancelled(gone)
                raise
            return await ending.refused(request, cut)
        except Exception as error:
            return await ending.refused(request, error)
        finally:
            del self._under_way[task]

    def end_all(self, reason: DrainingError) -> None:
        """Cancel every call that is under way; each is told the reason."""
        for task, ending in self._under_way.items():
            ending.cut(task, reason)

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return not self._under_way

    async def _answer(
        self, request: web.BaseRequest, path: str, api: HttpApi, ending: CallEnding
    ) -> web.StreamResponse:
        if not _PATH.fullmatch(request.raw_path):
            raise MalformedRequestError("the target is no path: ask for /v1/... of this host")
        head = incoming(request, self._limits.header_bytes)
        ending.request_id, ending.retries = head.request_id, head.retries
        self._require_own_name(request, path)
        head = self._admitted(request, head, path)
        use = self._parts.access.limiter.begin(head.principal)
        try:
            return await self._admitted_answer(request, head, path, api, ending, use)
        except Exception:
            use.give_back()
            raise
        finally:
            use.end()

    def _require_own_name(self, request: web.BaseRequest, path: str) -> None:
        """Browsers always say by what name they call; health is told by any, as it is status alone.

        Raises UnknownHostError."""
        names = self._parts.names
        if names is None or self._parts.access.credentials is not None or path in _HEALTH:
            return
        for host in request.headers.getall("Host", ()):
            if not is_own_name(host, names):
                raise UnknownHostError(
                    f"this gateway is not called {host[:128]!r}: ask by its IP address, or list "
                    "the name in server.http_hosts"
                )

    def _admitted(self, request: web.BaseRequest, head: Incoming, path: str) -> Incoming:
        """``head`` with whose it is, and without the credential. Raises as `Access.admit` does."""
        access, peer = self._parts.access, request.remote or ""
        certificate = partial(peer_of, request)
        principal = access.admit_carried(head.fields, needed_role(path), peer, certificate)
        fields = access.travelling(head.fields, principal)
        return head._replace(fields=fields, principal=principal)

    async def _admitted_answer(
        self,
        request: web.BaseRequest,
        head: Incoming,
        path: str,
        api: HttpApi,
        ending: CallEnding,
        use: Use,
    ) -> web.StreamResponse:
        if self._deferred is not None and self._deferred.serves(path):
            return await self._deferred.answer(request, head, path, ending)
        count = _COUNTS.get(path)
        routed = api is not OTHER or path in PASSED_THROUGH or path in self._parts.paths()
        if head.method != "POST" or not (routed or count):
            return await self._about(request, head, path, ending)
        limit = self._limits.body_bytes
        with IncomingBody(self._parts.capacity, limit, head.principal) as held:
            body = plain = await held.read(request)
            encoding = head.by_name.get("content-encoding", "identity").strip().lower()
            if encoding != "identity":
                plain = await held.inflated(body, encoding)
            fleet = self._director.view.snapshot.layout.fleet
            asked = prepared(head, count or api, body, plain, self._regions(), fleet.aliases)
            ending.asked = asked.call.request
            if self._deferred is not None and asked.asked.background:
                return await self._deferred.make_later(head, plain, asked.asked.model)
            del body, plain
            if count is not None:
                return await self._asked(asked.call, head, carries_prompt=True)
            return await self._infer(request, head, api, asked, ending, use)

    async def _infer(
        self,
        request: web.BaseRequest,
        head: Incoming,
        api: HttpApi,
        asked: PreparedCall,
        ending: CallEnding,
        use: Use,
    ) -> web.StreamResponse:
        asked, tier = await self._may_begin(head, asked)
        with self._director.admitting(asked.call.request):
            asked, manner = self._prepared(head, asked, use, tier)
        if asked.asked.streams or api is OTHER:
            return await self._stream(request, head, api, asked, manner, ending, use)
        answer = await self._director.infer(asked.call)
        use.settle(used_tokens(answer.receipt))
        self._parts.receipts.keep(answer.receipt)
        self._hold(head, api, asked, answer.receipt.decision.endpoint.name, answer.payload)
        return answering.whole(answer, manner)

    async def _may_begin(self, head: Incoming, asked: PreparedCall) -> tuple[PreparedCall, str]:
        """Returns when it may, with what its receipt is to say of that; and the tier of OpenAI's
        that it had, "" where it asked for none."""
        is_flex, deadline_s = asked.asked.is_flex, asked.deadline_s
        if not is_flex and deadline_s == math.inf:
            return asked, ""
        waited = Waited()
        if self._parts.holding is not None:
            wait_s = min(deadline_s, patience_s(head.by_name))
            waited = await self._parts.holding.hold(asked.call.request, wait_s)
        if waited.run_at_once is not None:
            request = asked.call.request._replace(run_at_once=waited.run_at_once)
            asked = asked._replace(call=asked.call._replace(request=request))
        return asked, waited.tier if is_flex else ""

    def _prepared(
        self, head: Incoming, asked: PreparedCall, use: Use, tier: str
    ) -> tuple[PreparedCall, Manner]:
        require_held(self._director, asked.asked.previous, asked.call.request)
        energy = head.wants_energy or self._parts.tells_energy(asked.call.request.tenant)
        if use.is_metered:
            asked = asked._replace(
                expected_tokens=self._director.expected_tokens(asked.call.request)
            )
            use.reserve(asked.expected_tokens)
        return asked, Manner(asked.wants_usage, energy, tier)

    async def _stream(
        self,
        request: web.BaseRequest,
        head: Incoming,
        api: HttpApi,
        asked: PreparedCall,
        manner: Manner,
        ending: CallEnding,
        use: Use,
    ) -> web.StreamResponse:
        stream = self._director.stream(asked.call)
        response: web.StreamResponse | None = None
        try:
            async for message in stream:
                if response is None:
                    if stream.decision is not None:
                        self._hold(head, api, asked, stream.decision.endpoint.name, message)
                    response = ending.response = await answering.begin(request, stream)
                if manner.tier:
                    message = answering.event_with_tier(message, manner.tier)
                ending.written_bytes += len(message)
                await response.write(message)
        except BaseException as error:
            settle_cut(use, stream, asked.expected_tokens, error)
            raise
        finally:
            await stream.aclose()
        if response is None:
            response = ending.response = await answering.begin(request, stream)
        if stream.receipt is not None:
            use.settle(used_tokens(stream.receipt))
            self._parts.receipts.keep(stream.receipt)
        await response.write(answering.ending(stream, manner, api))
        await response.write_eof()
        return response

    def _hold(
        self, head: Incoming, api: HttpApi, asked: PreparedCall, endpoint: str, answer: bytes
    ) -> None:
        """Who holds the state of a response may be asked for from its first event on."""
        if api is RESPONSES and asked.asked.keeps_state:
            named = response_in(answer)
            if named:
                request = asked.call.request
                sequence = held_by(named)
                self._director.hold(request.model, request.sequence_owner, sequence, endpoint)

    async def _about(
        self, request: web.BaseRequest, head: Incoming, path: str, ending: CallEnding
    ) -> web.StreamResponse:
        """Questions about the gateway, its models, receipts and stored responses."""
        stored = _STORED.fullmatch(path)
        posts = stored is not None and stored[2] == "/cancel"
        if stored is not None and head.method in (("POST",) if posts else ("GET", "DELETE")):
            if self._deferred is not None and is_background_id(stored[1]):
                return await self._deferred.made_later(head, stored[1], stored[2] or "")
            return await self._stored(head, stored[1])
        if head.method not in ("GET", "HEAD"):
            raise UnknownMethodError(
                f"{head.method[:16]} {path[:128]}: not served here{_meant_path(path)}"
            )
        if self._receipts.serves(path):
            return await self._receipts.answer(request, head, path, ending)
        if path in _HEALTH:
            return web.Response(status=200 if self._parts.ready() else 503)
        if path == _MODELS:
            listed = [self._model(name) for name in self._models(head)]
            return _json(msgspec.json.encode({"object": "list", "data": listed}))
        if path.startswith(_MODELS + "/"):
            name = unquote(path.removeprefix(_MODELS + "/"))
            require_model(head.principal, name)
            if name not in self._models(head):
                raise UnknownModelError(f"no endpoint serves {name[:128]!r}")
            return _json(msgspec.json.encode(self._model(name)))
        raise UnknownMethodError(f"{head.method} {path[:128]}: not served here{_meant_path(path)}")

    async def _stored(self, head: Incoming, response_id: str) -> web.Response:
        asked_for = parse_qs(head.path.partition("?")[2], keep_blank_values=True)
        if set(map(str.lower, asked_for.get("stream", ()))) - _NO_STREAM:
            raise UnsupportedMethodError(
                "stream=true: a stored response is not streamed again here"
            )
        tenant = held_tenant(head.principal, head.tenant)
        owner = sequence_owner(head.principal, tenant)
        asked = Request("", sequence_id=held_by(response_id), sequence_owner=owner)
        if not self._director.holder(asked):
            raise UnknownResponseError(f"no endpoint is known to hold {response_id[:64]!r}")
        return await self._asked(Call(asked, b"", head.metadata(), None), head)

    async def _asked(
        self, call: Call, head: Incoming, carries_prompt: bool = False
    ) -> web.Response:
        reply = await self._director.ask(call, f"{head.method} {head.path}", carries_prompt)
        fields = dict(reply.initial_metadata)
        kind = str(fields.get("content-type", "application/json"))
        status = int(fields.get(STATUS, 200))
        return web.Response(status=status, body=reply.payload, headers={"content-type": kind})

    def _regions(self) -> RegionMask:
        return self._director.view.snapshot.layout.residency_mask

    def _models(self, head: Incoming) -> list[str]:
        protocols, may_use = self._director.view.snapshot.layout.protocols, head.principal.may_use
        return [
            name
            for name in self._parts.models()
            if protocols.get(name) == PROTOCOL and may_use(name)
        ]

    def _model(self, name: str) -> dict[str, object]:
        served = self._director.view.snapshot.layout.find(name, "").served
        context = min(model.context_tokens for model in served)
        told: dict[str, object] = {
            "id": name, "object": "model", "created": int(self._parts.started_at),
            "owned_by": "carbon-router",
        }  # fmt: skip
        if context < float("inf"):
            told["max_model_len"] = int(context)
        return told


def _meant_path(path: str) -> str:
    """What a client's base address has too much or too little of; "" where it is not that."""
    right = path.removeprefix("/v1") if path.startswith("/v1/v1/") else f"/v1{path}"
    if right == _MODELS or right in _COUNTS or api_of(right) is not OTHER:
        return f"; did you mean {right}? See whether the client's base_url ends in /v1"
    return ""


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")

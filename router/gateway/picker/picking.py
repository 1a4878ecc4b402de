"""One stream of the external processing protocol: one HTTP request, from its head to its end."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

from router._pb import ext_proc_pb2 as pb
from router.director import Call, Director, Handover
from router.errors import (
    CarbonRouterError,
    MalformedRequestError,
    NothingFeasibleError,
    RefusedError,
    UnsupportedMethodError,
    UpstreamError,
    UpstreamTimeoutError,
)
from router.gateway.capacity import Capacity
from router.gateway.carbon_field import NAME, carbon_field
from router.gateway.failures import CANCELLED, Failures
from router.gateway.openai import refusal
from router.gateway.openai.calls import (
    PROTOCOL,
    Incoming,
    asked_of,
    caller_of,
    held_by,
    request_of,
    require_held,
    response_in,
)
from router.gateway.openai.fields import Asked, required_model
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.picker import wire
from router.gateway.picker.addresses import FleetAddresses
from router.gateway.picker.answer import CarriedAnswer
from router.gateway.picker.body import BodyReader, PickedBody
from router.gateway.picker.talk import OutOfTurnError, Talk
from router.http_api import MESSAGES, METHOD, OTHER, PATH, RESPONSES, STATUS, HttpApi, api_of
from router.identity.access import Access
from router.identity.limits import Use, used_tokens
from router.identity.principal import Role
from router.model import Decision, Receipt, Request
from router.reserved_names import is_reserved

# What a router of bodies before us says of the model (Gateway API Inference Extension).
MODEL_FIELD: Final = "x-gateway-model-name"
# What of an answer is about its server alone.
_OF_SERVERS: Final = frozenset(("endpoint-load-metrics", "endpoint-load-metrics-bin"))
# In this mode a proxy waits for the bytes of bodies, too.
_DUPLEX: Final = pb.FULL_DUPLEX_STREAMED
_BUFFERED: Final = (pb.BUFFERED, pb.BUFFERED_PARTIAL)
_REASON: Final = "x-carbon-reason"


class PickerParts(NamedTuple):
    """What requests are picked for with."""

    director: Director
    capacity: Capacity
    access: Access
    receipts: KeptReceipts
    failures: Failures


class PickerLimits(NamedTuple):
    """``body_bytes``: of one request; ``header_bytes``: of its fields."""

    body_bytes: int
    header_bytes: int


class Picking:
    """Of one stream; `run` it once."""

    def __init__(
        self, parts: PickerParts, limits: PickerLimits, addresses: FleetAddresses, talk: Talk
    ) -> None:
        self._parts = parts
        self._limits = limits
        self._addresses = addresses
        self._talk = talk
        self._api: HttpApi = OTHER
        self._shape: HttpApi = OTHER
        self._head: Incoming | None = None
        self._asked: Request | None = None
        self._keeps_state = False
        self._body = BodyReader(talk, parts.capacity, limits.body_bytes)
        self._subset: list[str] | None = None
        self._is_told = False
        self._request_mode = self._response_mode = int(_DUPLEX)

    async def run(self) -> None:
        """From its first message to its last. Raises OutOfTurnError, and what is a fault of our
        own where the proxy was told already where the request goes."""
        message = await self._talk.next()
        if message is None:
            return
        if message.WhichOneof("request") != "request_headers":
            raise OutOfTurnError("the stream does not begin with a request's headers")
        if message.observability_mode:
            # Nobody waits for a word, so nothing can be picked.
            return
        if message.HasField("protocol_config"):
            self._request_mode = message.protocol_config.request_body_mode
            self._response_mode = message.protocol_config.response_body_mode
        try:
            await self._admit(message)
        except OutOfTurnError:
            raise
        except Exception as error:
            if self._is_told:
                raise
            await self._refuse(error)

    async def _admit(self, message: Any) -> None:
        head = self._incoming(message)
        self._head = head
        access, capacity = self._parts.access, self._parts.capacity
        principal = access.admit(head.fields, Role.INFER, self._talk.peer)
        travelling = {key for key, _ in access.travelling(head.fields, principal)}
        removed = {key for key, _ in head.fields} - travelling
        self._head = head = head._replace(principal=principal)
        use = access.limiter.begin(principal)
        try:
            capacity.begin(principal.account, principal.weight)
            try:
                await self._carry(message, head, use, removed)
            except Exception:
                use.give_back()
                raise
            finally:
                capacity.end(principal.account)
                self._body.release()
        finally:
            use.end()

    def _incoming(self, message: Any) -> Incoming:
        head = wire.head_of(message.request_headers.headers, self._limits.header_bytes)
        path = head.pseudo.get(PATH, "")
        self._api = api_of(path)
        self._shape = MESSAGES if path.startswith(MESSAGES.path) else self._api
        if dict(head.fields).get("content-type", "").lower().startswith("application/grpc"):
            raise UnsupportedMethodError(
                "gRPC is not picked for here: ask a gateway of this product over gRPC"
            )
        self._subset = wire.subset_of(message)
        method = head.pseudo.get(METHOD, "")
        return Incoming(method, path, head.fields, dict(head.fields))

    async def _carry(self, message: Any, head: Incoming, use: Use, removed: set[str]) -> None:
        body, buffered = await self._taken_in(message, head)
        if body is None and buffered:
            # The caller left before its request was whole.
            return
        call = self._call(head, body)
        self._asked = call.request
        director = self._parts.director
        with director.admitting(call.request):
            if use.is_metered:
                use.reserve(director.expected_tokens(call.request))
        handover = director.hand_over(call)
        try:
            decisions = await handover.begin(director.limits.max_attempts)
            await self._tell(decisions, body, buffered, removed)
            self._body.release()
            body = None
            async with asyncio.timeout(director.limits.timeout_s):
                await self._follow(handover, use)
        except TimeoutError:
            longest_s = director.limits.timeout_s
            error = UpstreamTimeoutError(f"no end within {longest_s:g} s")
            self._failed(await handover.fail(error), handover, use)
        except asyncio.CancelledError as gone:
            if not handover.ended:
                self._left(gone)
            raise
        finally:
            await handover.abandon()
            handover.leave()

    async def _taken_in(self, message: Any, head: Incoming) -> tuple[PickedBody | None, bool]:
        """The body, None where there is none to be read here, and whether what is decided is told
        after it. (None, True): the stream ended before it did."""
        if message.request_headers.end_of_stream:
            return None, False
        if self._request_mode in _BUFFERED:
            await self._talk.say(wire.headers_passed(True)[0])
            return await self._body.read(in_one_piece=True), True
        if self._request_mode != _DUPLEX:
            return None, False
        body = await self._body.read(in_one_piece=False)
        return body, body is None

    def _call(self, head: Incoming, body: PickedBody | None) -> Call:
        director = self._parts.director
        caller = caller_of(head, director.view.snapshot.layout.residency_mask)
        encoding = head.by_name.get("content-encoding", "identity").strip().lower()
        if body is not None and body.pieces and encoding == "identity":
            plain = body.pieces[0] if len(body.pieces) == 1 else b"".join(body.pieces)
            asked = asked_of(head, self._api, plain, caller)
        else:
            plain = b""
            asked = Asked(self._model_by_head(head))
        if asked.previous:
            require_held(director, asked.previous, request_of(caller, asked, head, 0))
        self._keeps_state = self._api is RESPONSES and asked.keeps_state
        among = self._addresses.among(self._subset)
        if self._subset is not None and not among:
            raise NothingFeasibleError(
                "none of the endpoints that the proxy names is one of this fleet", None
            )
        size = 0 if body is None else body.size_bytes
        return Call(
            request_of(caller, asked, head, size), plain, head.metadata(), None, asked.prompt,
            PROTOCOL, head.principal.weight, among,
        )  # fmt: skip

    def _model_by_head(self, head: Incoming) -> str:
        """Of a request whose body does not come here."""
        named = head.by_name.get(MODEL_FIELD, "")
        if named:
            return required_model(named)
        protocols = self._parts.director.view.snapshot.layout.protocols
        models = [model for model, protocol in protocols.items() if protocol == PROTOCOL]
        if len(models) == 1:
            return models[0]
        raise MalformedRequestError(
            f"model: not known from the headers: have the proxy send the body, plain "
            f"(request_body_mode FULL_DUPLEX_STREAMED), or {MODEL_FIELD}"
        )

    async def _tell(
        self,
        decisions: tuple[Decision, ...],
        body: PickedBody | None,
        buffered: bool,
        removed: set[str],
    ) -> None:
        """Where the request goes, and after that its body, where the proxy waits for it."""
        say = self._talk.say
        self._is_told = True
        addresses = ",".join(self._addresses.of(one.endpoint.name) for one in decisions)
        names = sorted(removed)
        if buffered:
            response = wire.body_passed(True, b"", True, False)
            wire.picked(response, response.request_body.response, addresses, names)
            await say(response)
            return
        response, common = wire.headers_passed(True)
        wire.picked(response, common, addresses, names)
        await say(response)
        if body is None:
            return
        last = len(body.pieces) - 1
        for place, piece in enumerate(body.pieces):
            await say(wire.body_passed(True, piece, place == last and not body.trailers, True))
        if body.trailers:
            await say(wire.trailers_passed(True))

    async def _follow(self, handover: Handover, use: Use) -> None:
        """Until the answer has ended, or the stream."""
        answer = CarriedAnswer(handover, self._api)
        talk = self._talk
        while (message := await talk.next()) is not None:
            kind = message.WhichOneof("request")
            if kind == "request_body":
                # In full duplex the whole of it was passed: Envoy may send its end once more
                # (envoyproxy/envoy#46237).
                if self._request_mode != _DUPLEX:
                    await talk.say(wire.body_passed(True, b"", False, False))
            elif kind == "request_trailers":
                await talk.say(wire.trailers_passed(True))
            elif kind == "response_headers" and not answer.has_begun:
                begun = await self._begun(handover, answer, use, message)
                if message.response_headers.end_of_stream:
                    await self._end_answer(handover, answer, use)
                    await talk.say(begun)
                    return
                await talk.say(begun)
            elif kind == "response_body" and answer.has_begun:
                piece = message.response_body
                duplex = self._response_mode == _DUPLEX
                passed = wire.body_passed(False, piece.body, piece.end_of_stream, duplex)
                if not piece.end_of_stream:
                    await talk.say(passed)
                    self._failed(await answer.piece(piece.body), handover, use)
                    continue
                try:
                    await talk.say(passed)
                finally:
                    # The answer is whole, and a proxy that has this may cancel the stream at once.
                    self._failed(await answer.piece(piece.body), handover, use)
                    await self._end_answer(handover, answer, use)
                return
            elif kind == "response_trailers" and answer.has_begun:
                try:
                    await talk.say(wire.trailers_passed(False))
                finally:
                    await self._end_answer(handover, answer, use)
                return
            else:
                raise OutOfTurnError(f"{kind or 'nothing'} out of its turn")
        if not handover.ended:
            self._left(None)

    async def _begun(
        self, handover: Handover, answer: CarriedAnswer, use: Use, message: Any
    ) -> Any:
        """What to say of an answer's head, which is taken in."""
        head = wire.head_of(message.response_headers.headers)
        served = wire.served_of(message)
        known = not served or handover.served_by(self._addresses.endpoint(served))
        fields = ((NAME, carbon_field(handover.attempt.decision, handover.decision_id)),)
        removed = {key for key, _ in head.fields if is_reserved(key) or key in _OF_SERVERS}
        response, _ = wire.headers_passed(False, fields if known else (), sorted(removed - {NAME}))
        if not known:
            # Somebody else than was named: whose answer it is, and what it teaches, is not known.
            self._left(None)
            await handover.abandon()
        if not handover.ended:
            text = head.pseudo.get(STATUS, "")
            status = int(text) if text.isascii() and text.isdigit() and len(text) == 3 else 502
            self._failed(await answer.head(status, head.fields), handover, use)
        else:
            answer.has_begun = True
        return response

    async def _end_answer(self, handover: Handover, answer: CarriedAnswer, use: Use) -> None:
        ended = await answer.end()
        if isinstance(ended, UpstreamError):
            self._failed(ended, handover, use)
        if not isinstance(ended, Receipt):
            return
        use.settle(used_tokens(ended))
        self._parts.receipts.keep(ended)
        asked = self._asked
        if self._keeps_state and asked is not None:
            named = response_in(answer.begins)
            if named:
                endpoint = ended.decision.endpoint.name
                self._parts.director.hold(
                    asked.model, asked.sequence_owner, held_by(named), endpoint
                )

    async def _refuse(self, error: Exception) -> None:
        """The proxy tells the caller."""
        head = self._head
        request_id = "" if head is None else head.request_id
        retries = 0 if head is None else head.retries
        ended = refusal.refusal_of(error, self._shape, request_id, retries)
        status = ended.status
        if self._subset is not None and isinstance(error, RefusedError) and status != 429:
            # The protocol's one word for a subset of which nobody can be picked.
            status = 503
        self._parts.failures.failed(
            self._method, self._asked, str(status), ended.reason, error, retries
        )
        # In the product's own word, which the body has in those of the API.
        reason = error.reason if isinstance(error, CarbonRouterError) else ended.reason
        fields = (*ended.headers.items(), (_REASON, reason))
        await self._talk.say(wire.refused(status, fields, ended.body, ended.reason))

    def _failed(self, error: UpstreamError | None, handover: Handover, use: Use) -> None:
        """The caller got what its server said, or did not; the operator is told. Of its limit it
        has spent what came."""
        if error is None:
            return
        use.settle(float(handover.attempt.pieces))
        head = self._head
        ended = refusal.refusal_of(error, self._shape)
        retries = 0 if head is None else head.retries
        self._parts.failures.failed(
            self._method, self._asked, str(ended.status), ended.reason, error, retries
        )

    def broke(self, error: Exception) -> None:
        """A fault of our own ended it."""
        ended = refusal.refusal_of(error, self._shape)
        self._parts.failures.failed(
            self._method, self._asked, str(ended.status), ended.reason, error
        )

    def _left(self, error: BaseException | None) -> None:
        self._parts.failures.failed(
            self._method, self._asked, str(refusal.GONE), CANCELLED,
            error or asyncio.CancelledError(),
        )  # fmt: skip

    @property
    def _method(self) -> str:
        head = self._head
        return self._api.name if head is None or self._api is not OTHER else head.path[:64]

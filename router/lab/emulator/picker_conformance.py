"""Whether an endpoint picker keeps its protocol: a proxy that asks it, and watches what it says.

For any picker of the Gateway API Inference Extension (proposal 004, 1.0), not only this product's:
one stream of ``envoy.service.ext_proc.v3`` a request, in full duplex, as gateways ask. Nothing is
sent to model servers; answers are made up.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import grpc

from router._pb import ext_proc_pb2 as pb

SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
_DESTINATION: Final = "x-gateway-destination-endpoint"
_PATIENCE_S: Final = 10.0
_HEALTH: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"
_UNAVAILABLE: Final = 503
# Of documentation (RFC 5737): no pool has it.
_STRANGER: Final = "192.0.2.1:9"
_AT_ONCE: Final = 50
_CUT: Final = 20
_JSON: Final = {":status": "200", "content-type": "application/json"}
_SSE: Final = {":status": "200", "content-type": "text/event-stream"}
_ANSWER: Final = b'{"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}'
_EVENTS: Final = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"b"}}]}\n\n',
    b"data: [DONE]\n\n",
)


class PickerTarget(NamedTuple):
    """What is asked. ``fields``: of every request, such as a credential."""

    address: str
    model: str
    path: str = "/v1/chat/completions"
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        """A request that any picker can read."""
        asked = {"model": self.model, "messages": [{"role": "user", "content": "hello"}]}
        return json.dumps(asked).encode()


class CheckResult(NamedTuple):
    """``broken``: what was not kept, "" of what was."""

    name: str
    rule: str
    broken: str


class BrokenRuleError(Exception):
    """What the picker did that its protocol does not know."""


async def check_picker(target: PickerTarget) -> list[CheckResult]:
    """Every rule, one after another."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    found = []
    async with grpc.aio.insecure_channel(target.address, options=options) as channel:
        for name, (rule, check) in _CHECKS.items():
            found.append(CheckResult(name, rule, await _broken(check, channel, target)))
    return found


Check = Callable[[grpc.aio.Channel, PickerTarget], Awaitable[None]]


async def _broken(check: Check, channel: grpc.aio.Channel, target: PickerTarget) -> str:
    try:
        async with asyncio.timeout(3 * _PATIENCE_S):
            await check(channel, target)
    except BrokenRuleError as error:
        return str(error)
    except TimeoutError:
        return "no answer in time"
    except grpc.aio.AioRpcError as error:
        return f"the stream ended: {error.code().name}: {error.details()}"[:500]
    return ""


class _Stream:
    """One request, as a proxy tells of it in full duplex."""

    def __init__(self, call: Any, target: PickerTarget) -> None:
        self.call = call
        self._target = target

    async def say(self, **parts: Any) -> None:
        await self.call.write(pb.ProcessingRequest(**parts).SerializeToString())

    async def hear(self, kind: str) -> Any:
        """The next response, which has to be of this ``kind``."""
        async with asyncio.timeout(_PATIENCE_S):
            answer = await self.call.read()
        if answer is grpc.aio.EOF:
            raise BrokenRuleError(f"the stream ended where {kind} was to come")
        found = pb.ProcessingResponse.FromString(answer)
        said = found.WhichOneof("response")
        if said != kind:
            status = found.immediate_response.status.code
            told = f" {status}" if said == "immediate_response" else ""
            raise BrokenRuleError(f"{said or 'nothing'}{told} where {kind} was to come")
        return found

    async def head(
        self, subset: Sequence[str] | str | None = None, last: bool = False, **fields: str
    ) -> None:
        pairs = {":method": "POST", ":path": self._target.path, "content-type": "application/json"}
        pairs |= dict(self._target.fields)
        pairs |= {key.replace("_", "-"): value for key, value in fields.items()}
        metadata = pb.Metadata()
        if subset is not None:
            space = metadata.filter_metadata["envoy.lb.subset_hint"]
            value = space.fields[f"{_DESTINATION}-subset"]
            if isinstance(subset, str):
                value.string_value = subset
            else:
                value.list_value.SetInParent()
                for one in subset:
                    value.list_value.values.add(string_value=one)
        headers = pb.HttpHeaders(headers=_header_map(pairs), end_of_stream=last)
        await self.say(request_headers=headers, metadata_context=metadata)

    async def body(self, body: bytes, last: bool = True) -> None:
        await self.say(request_body=pb.HttpBody(body=body, end_of_stream=last))

    async def picked(self) -> list[str]:
        """The destinations of the headers' response."""
        response = await self.hear("request_headers")
        mutation = response.request_headers.response.header_mutation
        said = [
            (one.header.raw_value or one.header.value.encode()).decode()
            for one in mutation.set_headers
            if one.header.key.lower() == _DESTINATION
        ]
        space = response.dynamic_metadata.fields
        told = ""
        if "envoy.lb" in space:
            told = space["envoy.lb"].struct_value.fields[_DESTINATION].string_value
        if len(said) != 1 and not told:
            raise BrokenRuleError(f"no {_DESTINATION}, neither as a field nor as metadata")
        if said and told and said[0] != told:
            raise BrokenRuleError(f"the field says {said[0]!r}, the metadata {told!r}")
        found = [one.strip() for one in (said[0] if said else told).split(",")]
        for one in found:
            _require_address(one)
        return found

    async def passed(self, body: bytes) -> None:
        """The body comes back whole, and ends once."""
        got, ended = b"", False
        while not ended:
            response = await self.hear("request_body")
            streamed = response.request_body.response.body_mutation.streamed_response
            got += streamed.body
            ended = streamed.end_of_stream
        if not got:
            raise BrokenRuleError("of a body in full duplex nothing comes back")

    async def ask(self, **changes: Any) -> list[str]:
        """A whole request; its destinations."""
        await self.head(**changes)
        await self.body(self._target.body)
        found = await self.picked()
        await self.passed(self._target.body)
        return found

    async def answered(self, fields: dict[str, str], served: str, *pieces: bytes) -> None:
        """A whole answer, which the picker lets pass."""
        metadata = pb.Metadata()
        space = metadata.filter_metadata["envoy.lb"]
        space.fields[f"{_DESTINATION}-served"].string_value = served
        headers = pb.HttpHeaders(headers=_header_map(fields))
        await self.say(response_headers=headers, metadata_context=metadata)
        await self.hear("response_headers")
        for place, piece in enumerate(pieces):
            last = place == len(pieces) - 1
            await self.say(response_body=pb.HttpBody(body=piece, end_of_stream=last))
        ended = False
        while not ended:
            response = await self.hear("response_body")
            streamed = response.response_body.response.body_mutation.streamed_response
            ended = streamed.end_of_stream


@asynccontextmanager
async def _streaming(channel: grpc.aio.Channel, target: PickerTarget) -> AsyncIterator[_Stream]:
    call: Any = channel.stream_stream(f"/{SERVICE}/Process")()
    try:
        yield _Stream(call, target)
    finally:
        call.cancel()


def _header_map(pairs: dict[str, str]) -> Any:
    made = pb.HeaderMap()
    for key, value in pairs.items():
        made.headers.add(key=key, raw_value=value.encode())
    return made


def _require_address(text: str) -> None:
    host, _, port = text.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        good = 0 < int(port) < 65_536
    except ValueError:
        good = False
    if not good:
        raise BrokenRuleError(f"{text!r} is no ip:port")


async def _destination(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    async with _streaming(channel, target) as stream:
        await stream.ask()


async def _pieces(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    body = target.body
    async with _streaming(channel, target) as stream:
        await stream.head()
        for start in range(0, len(body), 16):
            await stream.body(body[start : start + 16], start + 16 >= len(body))
        await stream.picked()
        await stream.passed(body)


async def _no_body(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    async with _streaming(channel, target) as stream:
        await stream.head(last=True)
        await stream.picked()


async def _overwritten(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    async with _streaming(channel, target) as stream:
        if _STRANGER in await stream.ask(**{_DESTINATION.replace("-", "_"): _STRANGER}):
            raise BrokenRuleError("a client may say where its request goes")


async def _subset(channel: grpc.aio.Channel, target: PickerTarget, as_text: bool) -> None:
    async with _streaming(channel, target) as stream:
        known = await stream.ask()
    only = known[-1]
    async with _streaming(channel, target) as stream:
        found = await stream.ask(subset=f"{only},{_STRANGER}" if as_text else [only, _STRANGER])
    if found != [only]:
        raise BrokenRuleError(f"of {only} alone it picked {', '.join(found)}")


async def _subset_list(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    await _subset(channel, target, as_text=False)


async def _subset_text(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    await _subset(channel, target, as_text=True)


async def _refused(channel: grpc.aio.Channel, target: PickerTarget, subset: list[str]) -> None:
    async with _streaming(channel, target) as stream:
        await stream.head(subset=subset)
        await stream.body(target.body)
        response = await stream.hear("immediate_response")
        status = response.immediate_response.status.code
        if status != _UNAVAILABLE:
            raise BrokenRuleError(f"it is refused with {status}")


async def _nobody(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    await _refused(channel, target, [])


async def _strangers(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    await _refused(channel, target, [_STRANGER])


async def _whole_answer(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    async with _streaming(channel, target) as stream:
        (first, *_) = await stream.ask()
        await stream.answered(_JSON, first, _ANSWER)


async def _streamed_answer(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    async with _streaming(channel, target) as stream:
        found = await stream.ask()
        await stream.answered(_SSE, found[-1], *_EVENTS)


async def _failed_answer(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    async with _streaming(channel, target) as stream:
        (first, *_) = await stream.ask()
        await stream.answered({**_JSON, ":status": "503"}, first, b"{}")


async def _at_once(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_quiet(channel, target)) for _ in range(_AT_ONCE)]
    broken = [one for task in tasks if (one := task.result())]
    if broken:
        raise BrokenRuleError(f"{len(broken)} of {_AT_ONCE} requests at once: {broken[0]}")


async def _quiet(channel: grpc.aio.Channel, target: PickerTarget) -> str:
    return await _broken(_whole_answer, channel, target)


async def _cut(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    """Streams that end anywhere, and messages that are none; then a request as others."""
    dice = random.Random(1)
    for _ in range(_CUT):
        async with _streaming(channel, target) as stream:
            steps = dice.randrange(4)
            await stream.head()
            if steps > 0:
                await stream.body(target.body[:9], last=False)
            if steps > 1:
                await stream.body(target.body[9:])
            if steps > 2:
                await stream.call.write(bytes(dice.randrange(256) for _ in range(40)))
    await _whole_answer(channel, target)


async def _health(channel: grpc.aio.Channel, target: PickerTarget) -> None:
    check: Any = channel.unary_unary(_HEALTH)
    for name in ("liveness", "readiness", SERVICE):
        answer = await check(b"\x0a" + bytes([len(name)]) + name.encode(), timeout=_PATIENCE_S)
        if answer != _SERVING:
            raise BrokenRuleError(f"{name}: not SERVING")


_CHECKS: Final[dict[str, tuple[str, Check]]] = {
    "destination": ("a field or metadata says ip:port,...; both the same", _destination),
    "body in pieces": ("a body in full duplex comes back, and ends once", _pieces),
    "no body": ("a request that ends with its headers has a destination", _no_body),
    "overwritten": ("what the client says of the destination does not count", _overwritten),
    "subset, as a list": ("only those of the subset are picked", _subset_list),
    "subset, as text": ("only those of the subset are picked", _subset_text),
    "empty subset": ("503 by ImmediateResponse", _nobody),
    "subset of strangers": ("503 by ImmediateResponse", _strangers),
    "answer in one piece": ("headers and body pass", _whole_answer),
    "answer as events": (
        "each piece passes; another one served",
        _streamed_answer,
    ),
    "answer of a failure": ("it passes like others", _failed_answer),
    "many at once": (f"{_AT_ONCE} requests on one connection", _at_once),
    "streams cut anywhere": ("what breaks is that stream alone", _cut),
    "health": ("liveness, readiness and the service are SERVING", _health),
}

"""Every RPC and every route of both fronts, with no, wrong, expired, narrow and right credentials.

What there is comes from the servers' own tables: one that is new is walked without being named.
"""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool

from router._pb import inference_pb2, router_pb2
from router.errors import NothingFeasibleError
from router.gateway.oip import control, servicer
from router.gateway.oip.reflection import V1, V1ALPHA
from router.gateway.openai.front import served_paths
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.receipt_rows import encode_receipt
from router.identity.narrowing import sequence_owner
from router.identity.principal import Role
from router.model import Request
from tests.gateway.openai.support import Script as HttpScript
from tests.gateway.openai.support import serving
from tests.gateway.support import Script, error_of, infer_request, receipt, running, soon
from tests.identity.support import (
    CHAT,
    CONTROL,
    EARLY,
    EXPIRED,
    NARROW,
    OPERATOR,
    READER,
    RIGHT,
    UNKNOWN,
    WRONG,
    access,
    bearer,
    held_key,
    key_text,
)

HEALTH = "/grpc.health.v1.Health/"
OIP = f"/{servicer.SERVICE}/"
# Probes bring no credential.
PUBLIC_RPCS = {
    f"{HEALTH}Check", f"{HEALTH}List", f"{HEALTH}Watch", f"{OIP}ServerLive", f"{OIP}ServerReady",
}  # fmt: skip
# Of no use to anybody: they say so to all.
NOWHERE = {f"{OIP}{method}" for method in servicer.UNSUPPORTED}
BOTH_WAYS = {
    f"{OIP}ModelStreamInfer", f"/{V1}/ServerReflectionInfo", f"/{V1ALPHA}/ServerReflectionInfo",
}  # fmt: skip
# What grpc.aio's client says of a call that was refused while it was about to send a message.
OVERTAKEN = "Internal error from Core"
CONTROLLED = (f"/{control.SERVICE}/", f"/{V1}/", f"/{V1ALPHA}/")
# Keys of signatures are public, where there are any.
PUBLIC_PATHS = {"/health": 200, "/healthz": 200, "/ping": 200, "/v1/carbon/keys": 404}
NOBODYS = {"none": (), "unknown": UNKNOWN, "wrong": WRONG, "expired": EXPIRED, "early": EARLY}
DENIED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


class Refusing:
    """A `Control` that has nothing to say."""

    def __getattr__(self, name):
        def answer(*_):
            raise NothingFeasibleError("nothing")

        return answer


def served_methods(gateway):
    """The full name of every method that a gateway has handlers for."""
    found = set()
    for handler in gateway.handlers:
        for name in getattr(handler, "_method_handlers", ()):
            found.add(name.decode() if isinstance(name, bytes) else name)
    return found


def declared_methods():
    """Every method of our own protocols."""
    pool = DescriptorPool()
    for module in (inference_pb2, router_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for service in (servicer.SERVICE, control.SERVICE):
        for method in pool.FindServiceByName(service).methods:
            yield f"/{service}/{method.name}"


async def outcome(channel, method, credential, by="authorization"):
    """(code, reason) of one call with one small message."""
    metadata = ()
    if credential:
        metadata = (bearer(credential),) if by == "authorization" else ((by, credential),)
    message = infer_request().SerializeToString()
    if "Stream" not in method and "Watch" not in method and "Reflection" not in method:
        # A model's name where one is asked for; whatever else the message is, it is small.
        payload = message if method.endswith("ModelInfer") else b"\x0a\x05llama"
        payload = b"" if method in PUBLIC_RPCS or method.endswith("Index") else payload
        call = channel.unary_unary(method)(payload, metadata=metadata)
        try:
            await soon(call)
        except grpc.aio.AioRpcError as error:
            return error.code(), dict(error.trailing_metadata()).get("x-carbon-reason")
        return grpc.StatusCode.OK, None
    kind = channel.stream_stream if method in BOTH_WAYS else channel.unary_stream
    while True:
        call = kind(method)(iter([b""]) if method in BOTH_WAYS else b"", metadata=metadata)
        try:
            await soon(call.read())
        except grpc.aio.AioRpcError as error:
            if error.details() == OVERTAKEN:
                continue
            return error.code(), dict(error.trailing_metadata()).get("x-carbon-reason")
        if not call.done():
            call.cancel()
            return grpc.StatusCode.OK, None
        trailers = await soon(call.trailing_metadata())
        if await soon(call.details()) != OVERTAKEN:
            return await soon(call.code()), dict(trailers).get("x-carbon-reason")


async def test_every_declared_method_is_served():
    async with running(Script()) as gateway:
        assert set(declared_methods()) <= served_methods(gateway.gateway)


@pytest.mark.parametrize("credential", NOBODYS.values(), ids=NOBODYS)
async def test_nobody_gets_an_answer_from_any_rpc(credential):
    async with running(Script(), Refusing(), access=access()) as gateway:
        for method in sorted(served_methods(gateway.gateway)):
            code, reason = await outcome(gateway.channel, method, credential)
            if method in PUBLIC_RPCS:
                assert code is grpc.StatusCode.OK, method
            elif method in NOWHERE:
                assert code is grpc.StatusCode.UNIMPLEMENTED, method
            else:
                assert (code, reason) == (DENIED[0], "unauthenticated"), method
        assert gateway.director.calls == []


async def test_every_rpc_takes_its_role():
    async with running(Script(), Refusing(), access=access()) as gateway:
        for method in sorted(served_methods(gateway.gateway) - PUBLIC_RPCS - NOWHERE):
            controls = method.startswith(CONTROLLED)
            may = {RIGHT: not controls, CONTROL: controls, OPERATOR: True, READER: False}
            for credential, allowed in may.items():
                code, reason = await outcome(gateway.channel, method, credential)
                if allowed:
                    assert code not in DENIED, (method, credential)
                else:
                    assert (code, reason) == (DENIED[1], "not_permitted"), (method, credential)


async def test_rpcs_about_a_model_take_one_that_is_granted():
    about = [f"{OIP}{name}" for name in (*servicer.ASKED, "ModelReady", "ModelInfer")]
    about += [f"/{control.SERVICE}/Decide", f"/{control.SERVICE}/Explain"]
    async with running(Script(), Refusing(), access=access()) as gateway:
        for method in about[:-2]:
            code, reason = await outcome(gateway.channel, method, NARROW)
            assert (code, reason) == (DENIED[1], "not_permitted"), method
        index = gateway.channel.unary_unary(f"{OIP}RepositoryIndex")
        assert await index(b"", metadata=(bearer(NARROW),)) == b""
        assert b"llama" in await index(b"", metadata=(bearer(RIGHT),))
        assert gateway.director.calls == []


async def test_keys_come_by_either_header():
    async with running(Script(), access=access()) as gateway:
        for by in ("authorization", "x-api-key"):
            code, _ = await outcome(gateway.channel, f"{OIP}ModelInfer", RIGHT, by)
            assert code is grpc.StatusCode.OK
        for call in gateway.director.calls:
            assert not any(RIGHT in str(item) for item in call.metadata)
            assert call.request.tenant == "acme"


async def test_who_is_unknown_is_refused_before_a_message_is_read():
    async with running(Script(), access=access()) as gateway:
        call = gateway.channel.stream_unary(f"{OIP}ModelInfer")()
        code, _, trailers = await error_of(call)
        assert (code, trailers["x-carbon-reason"]) == (DENIED[0], "unauthenticated")


async def test_names_of_models_are_told_to_who_may_use_them():
    async with running(Script(), access=access()) as gateway:
        check = gateway.channel.unary_unary(f"{HEALTH}Check")
        named = b"\x0a\x0bmodel/llama"
        assert (await error_of(check(named)))[0] is grpc.StatusCode.NOT_FOUND
        assert (await error_of(check(named, metadata=(bearer(NARROW),))))[0] is (
            grpc.StatusCode.NOT_FOUND
        )
        assert await soon(check(named, metadata=(bearer(RIGHT),)))
        listed = gateway.channel.unary_unary(f"{HEALTH}List")
        assert b"llama" not in await soon(listed(b""))
        assert b"llama" in await soon(listed(b"", metadata=(bearer(RIGHT),)))


# HTTP


ASK = b'{"model": "llama", "messages": [], "input": "a", "prompt": "a"}'


async def status(front, method, path, credential, by="authorization", tenant=""):
    """(status, body, headers) of one call."""
    headers = {"content-type": "application/json"}
    if tenant:
        headers["x-tenant"] = tenant
    if credential:
        headers[by] = f"Bearer {credential}" if by == "authorization" else credential
    body = ASK if method == "POST" else None
    async with front.client.request(method, front.url(path), data=body, headers=headers) as reply:
        return reply.status, await reply.read(), reply.headers


@pytest.mark.parametrize("credential", NOBODYS.values(), ids=NOBODYS)
async def test_nobody_gets_an_answer_from_any_route(credential):
    async with serving(access=access(), paths=("/v1/own",)) as front:
        more = [("POST", "/v1/own"), ("GET", "/v1/nothing"), ("PUT", "/v1/models"), ("GET", "/")]
        for method, path in (*served_paths(), *more):
            code, body, headers = await status(front, method, path, credential)
            if path in PUBLIC_PATHS:
                assert code == PUBLIC_PATHS[path], path
                continue
            assert code == 401, (method, path)
            assert headers["www-authenticate"].startswith("Bearer")
            assert (
                (b"authentication_error" in body)
                if "messages" in path
                else (b"invalid_api_key" in body)
            ), (method, path)
        assert front.director.calls == front.director.asked == []


async def test_every_route_takes_its_role():
    async with serving(access=access(), paths=("/v1/own",)) as front:
        for method, path in (*served_paths(), ("POST", "/v1/own")):
            if path in PUBLIC_PATHS:
                continue
            receipts = path.startswith("/v1/carbon/receipts")
            may = {RIGHT: not receipts, READER: receipts, OPERATOR: True, CONTROL: False}
            for credential, allowed in may.items():
                code, body, _ = await status(front, method, path, credential)
                assert (code not in (401, 403)) == allowed, (method, path, credential)
                if not allowed:
                    assert b"not_permitted" in body


async def test_routes_about_a_model_take_one_that_is_granted():
    async with serving(access=access()) as front:
        posts = [path for method, path in served_paths() if method == "POST"]
        for path in posts:
            if path.endswith("/cancel"):
                continue
            code, body, _ = await status(front, "POST", path, NARROW)
            assert (code, b"not_permitted" in body) == (403, True), path
        assert (await status(front, "GET", "/v1/models/llama", NARROW))[0] == 403
        assert b"llama" not in (await status(front, "GET", "/v1/models", NARROW))[1]
        assert b"llama" in (await status(front, "GET", "/v1/models", RIGHT))[1]


async def test_an_http_call_of_nobody_is_refused_before_its_body_is_read():
    async with serving(access=access()) as front:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(head + b"connection: close\r\n\r\n")
        answer = await soon(reader.readuntil(b"\r\n\r\n"))
        writer.close()
        assert answer.startswith(b"HTTP/1.1 401")
        assert front.capacity.held_bytes == 0


async def test_no_key_travels_on_to_a_server():
    director = HttpScript()
    async with serving(director, access=access()) as front:
        for by in ("authorization", "x-api-key"):
            assert (await status(front, "POST", "/v1/chat/completions", RIGHT, by))[0] == 200
        await status(front, "POST", "/v1/messages/count_tokens", RIGHT)
        for call in (*director.calls, *(call for call, _ in director.asked)):
            assert RIGHT not in repr(call)
            assert call.request.tenant == "acme"


async def test_what_one_tenant_keeps_another_does_not_find():
    director = HttpScript(payload=b'{"id":"resp_1","output":[]}')
    rivals = key_text("rivals")
    may = replace(CHAT, name="rivals", tenant="rival", roles=frozenset((Role.OPERATOR,)))
    receipts = KeptReceipts()
    receipts.keep(receipt(decision_id="gw-7", request=Request("llama", tenant="acme")))
    held = access(held_key(rivals, may))
    async with serving(director, access=held, receipts=receipts) as front:
        assert (await status(front, "POST", "/v1/responses", RIGHT))[0] == 200
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
            stored = f"/v1/responses/resp_1{path}"
            assert (await status(front, method, stored, RIGHT))[0] == 200, stored
            assert (await status(front, method, stored, rivals))[0] == 404, stored
        on = b'{"model": "llama", "input": "a", "previous_response_id": "resp_1"}'
        for key, code in ((RIGHT, 200), (rivals, 404)):
            told = await front.post("/v1/responses", on, authorization=f"Bearer {key}")
            assert told[0] == code
        kept = "/v1/carbon/receipts/gw-7"
        assert (await status(front, "GET", kept, READER))[0] == 200
        assert (await status(front, "GET", kept, OPERATOR))[0] == 200
        assert (await status(front, "GET", kept, rivals))[0] == 404
        # Another tenant's name does not help.
        code, body, _ = await status(front, "GET", kept, rivals, tenant="acme")
        assert (code, b"x-tenant" in body) == (403, True)


async def test_a_receipt_without_a_tenant_is_told_to_its_principal_alone():
    """By the process that answered, and by another that was handed it as a row."""
    mine, theirs, proxy = map(key_text, ("mine", "theirs", "proxy"))
    may = replace(CHAT, name="mine", tenant="", roles=frozenset((Role.OPERATOR,)))
    held = access(
        held_key(mine, may),
        held_key(theirs, replace(may, name="theirs")),
        held_key(proxy, replace(may, name="proxy", tenant="*")),
    )
    asked = Request("llama", sequence_owner=sequence_owner(may, ""))
    told = receipt(decision_id="gw-7", request=asked)
    elsewhere = SimpleNamespace(find=lambda _: encode_receipt(told), keep=None)
    here = KeptReceipts()
    here.keep(told)
    for receipts in (here, KeptReceipts(elsewhere)):
        async with serving(HttpScript(), access=held, receipts=receipts) as front:
            kept = "/v1/carbon/receipts/gw-7"
            assert (await status(front, "GET", kept, mine))[0] == 200
            for key in (theirs, proxy):
                assert (await status(front, "GET", kept, key))[0] == 404
            # What it is called inside is no tenant that anybody can name.
            assert (await status(front, "GET", kept, proxy, tenant=" mine"))[0] == 404


async def test_a_question_names_one_tenant():
    proxy = key_text("proxy")
    may = replace(CHAT, tenant="*", roles=frozenset((Role.OPERATOR,)))
    receipts = KeptReceipts()
    receipts.keep(receipt(decision_id="gw-7", request=Request("llama", tenant="acme")))
    async with serving(
        HttpScript(), access=access(held_key(proxy, may)), receipts=receipts
    ) as front:
        for tenants, code in ((["acme", "acme"], 200), (["rival", "acme"], 400)):
            headers = [
                ("authorization", f"Bearer {proxy}"),
                *(("x-tenant", one) for one in tenants),
            ]
            got = await front.client.get(front.url("/v1/carbon/receipts/gw-7"), headers=headers)
            assert got.status == code, tenants


async def test_an_http_request_is_held_to_what_its_principal_may():
    text = key_text("europe")
    may = replace(
        CHAT, name="europe", residency=frozenset(("eu",)), origins=("home", "away"), weight=3.0
    )
    async with serving(access=access(held_key(text, may))) as front:
        path, key = "/v1/chat/completions", f"Bearer {text}"

        async def asked(extra=None, **headers):
            body = {"model": "llama", "messages": [], **(extra or {})}
            return (await front.post(path, body, authorization=key, **headers))[0]

        assert await asked() == 200
        call = front.director.calls[-1]
        assert (call.request.residency, call.request.origin) == ({"eu"}, "home")
        assert (call.request.tenant, call.weight) == ("acme", 3.0)
        assert await asked(x_residency="DE", x_origin="away") == 200
        request = front.director.calls[-1].request
        assert (request.residency, request.origin) == ({"de"}, "away")
        assert await asked({"inference_geo": "de"}) == 200
        assert front.director.calls[-1].request.residency == {"de"}
        assert await asked({"inference_geo": "global"}) == 200
        count = len(front.director.calls)
        for wider in ({"x_residency": "US"}, {"x_origin": "mars"}, {"x_tenant": "rival"}):
            assert await asked(**wider) == 403, wider
        assert await asked({"inference_geo": "us"}) == 403
        assert len(front.director.calls) == count

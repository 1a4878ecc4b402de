"""Who may what on Envoy's plane: the same words as the native gateway's, and no key seen again."""

import asyncio
import json
import mmap
import os
import signal

import grpc
import pytest

from router.clock import WallClock
from router.planes.envoy import envoy_process
from router.planes.envoy.known_file import KnownHead
from tests.e2e import harness as h
from tests.e2e.test_identity import (
    CHAT,
    EUROPE,
    LATER,
    SECRET,
    STRANGER,
    bearer,
    entry,
    key_of,
    who_may_what,
    write_keys,
)
from tests.e2e.test_tls import grpc_client
from tests.fakes.secure import authority, server_certificate
from tests.identity.support import (
    OTHER_KEY,
    PUBLISHED,
    claims,
    jwks,
    jwt_said,
    token,
)
from tests.long import LONG
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig
from tests.planes.envoy.test_tls import admin

pytestmark = [hosts.missing, pytest.mark.timeout(300)]
TWO, SPENDER = map(key_of, ("two", "spender"))
MORE = (
    entry(TWO, "two", limits={"max_concurrent": 2}),
    entry(SPENDER, "spender", tenant="acme", limits={"tokens_per_min": 100}),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("envoy-identity")
    write_keys(folder, *MORE)
    made = rig.config(identity={"keys_file": "keys.yaml"})
    made["server"]["workers"] = 2
    with rig.running(folder, made) as (gateway, _):
        gateway.folder = folder
        yield gateway


async def test_each_caller_hears_what_the_native_gateway_says(place):
    async with place.client() as client:

        async def answered():
            try:
                await client.infer(h.ask(), bearer(CHAT))
            except grpc.aio.AioRpcError:
                return False
            return True

        await h.until(answered, "an answer")
        await who_may_what(client, place.folder)
        write_keys(place.folder, *MORE)

        async def gone():
            try:
                await client.infer(h.ask(), bearer(LATER))
            except grpc.aio.AioRpcError:
                return True
            return False

        await h.until(gone, "the key being revoked")
        assert (await client.refusal(metadata=bearer(LATER)))[1] == "unauthenticated"
        # Several that differ, and the same twice.
        both = (*bearer(CHAT), ("x-api-key", EUROPE))
        assert (await client.refusal(metadata=both))[1] == "unauthenticated"
        await client.infer(h.ask(), (*bearer(CHAT), ("x-api-key", CHAT)))


async def test_over_http_it_is_told_in_the_shape_of_the_api(place):
    status, headers, body = await place.chat()
    assert (status, json.loads(body)["error"]["code"]) == (401, "invalid_api_key")
    assert headers["www-authenticate"].startswith("Bearer")
    assert (await place.chat(headers={"authorization": f"Bearer {STRANGER}"}))[0] == 401
    assert (await place.chat(headers={"authorization": f"Bearer {CHAT}"}))[0] == 200
    # A body that comes after whoever sends it was asked for.
    stranger = {"authorization": f"Bearer {EUROPE}", "x-residency": "eu", "x-origin": "home"}
    status, _, body = await place.chat(headers=stranger, padding="x" * 300_000)
    assert (status, json.loads(body)["error"]["code"]) == (403, "not_permitted")


async def test_places_of_a_principal_are_exact_over_workers(place):
    channels = [h.grpc.aio.insecure_channel(place.address, options=h.QUICK) for _ in range(8)]
    calls = [
        h.Client(one).infer(h.ask(output_tokens=500), bearer(TWO))
        for one in channels
        for _ in range(3)
    ]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    refused = [one for one in ended if isinstance(one, grpc.aio.AioRpcError)]
    assert len(ended) - len(refused) == 2
    told = [dict(one.trailing_metadata()) for one in refused]
    assert {one["x-carbon-reason"] for one in told} == {"rate_limited"}
    assert {one["grpc-retry-pushback-ms"] for one in told} == {"1000"}

    async def is_free():
        async with place.client() as client:
            try:
                await client.infer(h.ask(), bearer(TWO))
            except grpc.aio.AioRpcError:
                return False
        return True

    await h.until(is_free, "their places being free")
    for one in channels:
        await one.close()


async def test_what_answers_took_is_set_against_the_limit(place):
    async with place.client() as client:
        # Few are expected, and many come.
        await client.infer(h.ask(output_tokens=400), bearer(SPENDER))

        async def refused():
            try:
                await client.infer(h.ask(), bearer(SPENDER))
            except grpc.aio.AioRpcError as error:
                return error

        error = await h.until(refused, "the limit being used up")
        told = dict(error.trailing_metadata())
        assert (error.code().name, told["x-carbon-reason"]) == (
            "RESOURCE_EXHAUSTED", "rate_limited",
        )  # fmt: skip
        assert "100 tokens a minute" in error.details()
        assert int(told["grpc-retry-pushback-ms"]) >= 1


def was_looked_at_earlier(folder, by_s):
    """As if the gateway that was killed had been dead for so long."""
    with (rig.run_folder(folder / "gateway.yaml") / "table.known").open("r+b") as file:
        head = KnownHead.from_buffer(mmap.mmap(file.fileno(), 0))
        head.looked_s -= by_s


@LONG
async def test_without_its_writer_known_callers_go_on_and_others_are_told_to_wait(tmp_path):
    write_keys(tmp_path)
    made = rig.config(identity={"keys_file": "keys.yaml"})
    with rig.running(tmp_path, made) as (gateway, _):
        pid = gateway.envoy_pid
        async with gateway.client() as client:
            await client.infer(h.ask(), bearer(CHAT))
            gateway.process.kill()
            gateway.process.wait()
            try:
                await client.infer(h.ask(), bearer(CHAT))
                code, reason, _ = await client.refusal(metadata=bearer(EUROPE))
                assert (code, reason) == ("UNAVAILABLE", "identity_unavailable")
                # But not for ever: their keys may be revoked by now.
                was_looked_at_earlier(tmp_path, 300.0)
                code, reason, _ = await client.refusal(metadata=bearer(CHAT))
                assert (code, reason) == ("UNAVAILABLE", "identity_unavailable")
                again = rig.EnvoyGateway(tmp_path, made)
                try:
                    assert again.envoy_pid == pid
                    await client.infer(h.ask(), bearer(EUROPE))
                    await client.infer(h.ask(), bearer(CHAT))
                finally:
                    assert again.stop() == 0
            finally:
                if envoy_process.born(pid):
                    os.kill(pid, signal.SIGTERM)


BATCH = {"name": "batch", "uri": "spiffe://example.org/batch", "residency": ["us"]}


def with_tokens_and_certificates(folder):
    """A gateway that knows callers by either, and serves those that show none of them, too."""
    server_certificate().write(folder, "gateway")
    authority("clients").write(folder, "clients")
    (folder / "jwks.json").write_bytes(jwks(*PUBLISHED))
    made = rig.config()
    pem = {"cert_file": "gateway.crt", "key_file": "gateway.key", "client_ca_file": "clients.pem"}
    made["server"]["tls"] = {**pem, "client_auth": "optional"}
    said = jwt_said(jwks_file="jwks.json", algorithms=["RS256"], grants={"models": [h.MODEL]})
    made["identity"] = {"jwt": said, "mtls": {"principals": [BATCH]}}
    return made


async def stranger_on_loopback(gateway, claimed):
    """Nor whoever finds the port that is passed on to, past Envoy."""
    hosts_file = json.loads((rig.run_folder(gateway.path) / "hosts-native-oip.json").read_text())
    ((found,),) = [
        [one["lb_endpoints"] for one in resource["endpoints"]]
        for resource in hosts_file["resources"]
    ]
    port = found[0]["endpoint"]["address"]["socket_address"]["port_value"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=h.QUICK) as channel:
        for key in ((), (("x-native-key", ""),), (("x-native-key", "guessed"),)):
            refused = await h.Client(channel).refusal(metadata=(*claimed, *key))
            assert refused[1] == "unauthenticated"


async def test_tokens_and_certificates_say_who_calls(tmp_path):
    now = WallClock().now()
    told = claims(exp=now + 600.0, iat=now - 5.0)
    good, forged = token(told), token(told, key=OTHER_KEY)
    late = token(claims(exp=now - 600.0, iat=now - 900.0))
    with rig.running(tmp_path, with_tokens_and_certificates(tmp_path)) as (gateway, _):
        target = f"localhost:{h.port_of(gateway.address)}"
        plain = grpc.ssl_channel_credentials(authority().root)
        async with (
            grpc.aio.secure_channel(target, plain, options=h.QUICK) as channel,
            grpc_client(gateway) as shown,
            grpc_client(gateway, authority("clients").issue("spiffe://example.org/x")) as other,
        ):
            client = h.Client(channel)

            async def known():
                try:
                    await client.infer(h.ask(), bearer(good))
                except grpc.aio.AioRpcError:
                    return False
                return True

            await h.until(known, "the issuer's keys being read")
            for who, metadata in {"nobody": (), "a forger": bearer(forged)}.items():
                assert (await client.refusal(metadata=metadata))[1] == "unauthenticated", who
            assert "expired" in (await client.refusal(metadata=bearer(late)))[2]
            assert (await client.refusal(h.ask("other"), bearer(good)))[1] == "not_permitted"
            # A certificate says it of its connection, and where its requests may run.
            assert (await shown.receipt())["endpoint"] == h.NEAR
            assert (await shown.receipt(authorization="Bearer none"))["endpoint"] == h.NEAR
            assert (await shown.refusal(x_residency="eu"))[1] == "not_permitted"
            # What a client says of certificates itself counts nothing.
            claimed = (("x-forwarded-client-cert", 'Hash=00;URI="spiffe://example.org/batch"'),)
            assert (await client.refusal(metadata=claimed))[1] == "unauthenticated"
            assert (await other.refusal())[1] == "unauthenticated"
            # So does what is passed on, where the gateway's own process has no such connection.
            assert (await shown.receipt(x_deadline_s=60))["endpoint"] == h.NEAR
            assert (await shown.refusal(x_deadline_s=60, x_residency="eu"))[1] == "not_permitted"
            passed = (*claimed, ("x-native-key", "guessed"), ("x-deadline-s", "60"))
            for who in (client, other):
                assert (await who.refusal(metadata=passed))[1] == "unauthenticated"
            await stranger_on_loopback(gateway, claimed)


async def test_places_of_a_principal_are_those_of_what_is_passed_on_too(place):
    def let_in(client, *more):
        async def answered():
            try:
                await client.infer(h.ask(), (*bearer(TWO), *more))
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                return False
            return True

        return answered

    def refused(client, *more):
        async def is_refused():
            return not await let_in(client, *more)()

        return is_refused

    async with place.client() as client:
        await h.until(let_in(client), "the others' ends")
        ask = h.ask(output_tokens=20_000)
        streams = [client.stream(ask, metadata=bearer(TWO)) for _ in range(2)]
        for one in streams:
            await anext(aiter(one))
        # Both are passed on, and no place is left in Envoy.
        await h.until(refused(client), "the streams being known")
        streams.pop().cancel()
        await h.until(let_in(client), "the stream's end being known")
        # The other way round: one of them is Envoy's, and no third is passed on.
        call = client.infer(h.ask(output_tokens=4_000), bearer(TWO))
        await h.until(refused(client, ("x-deadline-s", "60")), "the call being known")
        call.cancel()
        streams.pop().cancel()


async def test_no_key_is_seen_again(place):
    """Last: what the others left is looked through."""
    # Strangers choose which of its pages are looked at: all of them are there.
    known = (rig.run_folder(place.path) / "table.known").stat()
    assert known.st_blocks * 512 >= known.st_size
    pages = [await admin(place, one) for one in ("config_dump", "stats", "clusters")]
    pages += [(await h.get(place.admin, one))[1] for one in ("/snapshot", "/metrics", "/readyz")]
    pages.append(place.log.read_text())
    pages.append((rig.run_folder(place.path) / "table.known").read_bytes().decode("latin-1"))
    pages.append((rig.run_folder(place.path) / "table").read_bytes().decode("latin-1"))
    assert all(SECRET not in page and "crk_" not in page for page in pages)
    assert await place.total("security_events_total", event="unauthenticated") >= 4
    assert await place.total("security_events_total", event="rate_limited") >= 1
    lines = [json.loads(one) for one in place.log.read_text().splitlines() if one[:1] == "{"]
    audit = [one for one in lines if one["logger"] == "router.security" and "event" in one]
    assert {"unauthenticated", "not_permitted", "rate_limited", "first_use", "keys_loaded"} <= {
        one["event"] for one in audit
    }
    why = {one.get("why") for one in audit}
    assert {"missing", "unknown_key", "malformed", "ambiguous", "x-residency", "model"} <= why
    assert {"chat", "two"} <= {one.get("principal") for one in audit}

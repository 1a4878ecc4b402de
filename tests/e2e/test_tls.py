"""TLS, keys and tokens on every port and towards every server, and certificates that change."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
from shutil import which

import aiohttp
import grpc
import pytest

from router.trust.peer import read_peer
from tests.e2e.conftest import closing_children, new_garbage_collected
from tests.e2e.harness import (
    QUICK,
    ROOT,
    SERVICE,
    Client,
    Gateway,
    ask,
    base,
    emulator,
    endpoint,
    get,
    pair,
    port_of,
    until,
)
from tests.fakes.secure import (
    LOOPBACK,
    authority,
    client_certificate,
    client_context,
    server_certificate,
)
from tests.gateway.oip.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    literal,
)
from tests.ports import free_ports

CHAT_MODEL = "chatty"
BACKEND_KEY = "sk-backend-51c0de9f27ab"
TOKEN = "admin-t0ken-8d1f2a77"
MINE = "client-key-of-a-stranger"
CHAT = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hi"}], "output_tokens": 4}


class Place:
    """A gateway before emulated servers of both protocols, everything over mTLS."""

    def __init__(self, spawn, tmp_path):
        self.folder = tmp_path
        self.clients = authority("clients")
        self.write("gateway", server_certificate())
        self.write("ours", client_certificate("fleet clients"))
        self.write("model", authority("fleet").issue(*LOOPBACK))
        for name in ("clients", "fleet", "fleet clients"):
            authority(name).write(tmp_path, name)
        (tmp_path / "token").write_text(TOKEN + "\n")
        (tmp_path / "backend-key").write_text(BACKEND_KEY + "\n")
        http, metrics, chat = free_ports(3)
        self.http = f"127.0.0.1:{http}"
        endpoints = pair(metrics={"url": f"https://127.0.0.1:{metrics}/m", "engine": "vllm"})
        endpoints[1]["metrics"] = {"url": f"https://127.0.0.1:{metrics}/n", "engine": "vllm"}
        profile = {"name": CHAT_MODEL, "profile": "fast@test"}
        endpoints.append(
            endpoint("chat-0", "here", f"https://127.0.0.1:{chat}", protocol="openai",
                     models=[{**profile, "context_tokens": 10_000}],
                     metrics={"url": f"https://127.0.0.1:{chat}/metrics", "engine": "vllm"})
        )  # fmt: skip
        lengths = {"input_tokens": 20, "output_tokens": 4, "output_tokens_p95": 12}
        config = base(endpoints, load={"scrape_s": 0.2})
        config["models"][CHAT_MODEL] = lengths
        pem = {"cert_file": "gateway.crt", "key_file": "gateway.key"}
        config["server"] |= {
            "http": self.http, "tls": {**pem, "client_ca_file": "clients.pem"}, "admin_tls": pem,
            "admin_token_file": "token",
        }  # fmt: skip
        config["backends"] = {
            "tls": {"ca_file": "fleet.pem", "cert_file": "ours.crt", "key_file": "ours.key"},
            "credentials": {"file": "backend-key"},
        }
        spawn(
            emulator, config, "emulator",
            "--tls-cert", str(tmp_path / "model.crt"), "--tls-key", str(tmp_path / "model.key"),
            "--tls-client-ca", str(tmp_path / "fleet clients.pem"), "--key-env", "KEY",
        )  # fmt: skip
        self.gateway = spawn(Gateway, config)

    def write(self, stem, issued):
        issued.write(self.folder, stem)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One for all: what a test changes is as good as what was there before."""
    folder = tmp_path_factory.mktemp("tls")
    with closing_children() as children:

        def start(make, *given):
            secure = {"context": client_context(), "token": TOKEN}
            named = {"env": {"KEY": BACKEND_KEY}} if make is emulator else secure
            children.append(make(folder, *given, **named))
            return children[-1]

        yield Place(start, folder)


@pytest.fixture(autouse=True)
async def _last_turns():
    """What begins with TLS ends a few turns of the loop after it is told to."""
    with new_garbage_collected():
        yield
        for _ in range(10):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def grpc_client(gateway, shows=None, believes=None):
    shows = shows or client_certificate("clients")
    credentials = grpc.ssl_channel_credentials(
        (believes or authority()).root, shows.key, shows.chain
    )
    target = f"localhost:{port_of(gateway.address)}"
    async with grpc.aio.secure_channel(target, credentials, options=QUICK) as channel:
        yield Client(channel)


def http_client(shows=None, believes=None):
    context = client_context(believes, shows or client_certificate("clients"))
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


async def chat(session, place):
    headers = {"authorization": f"Bearer {MINE}"}
    url = f"https://{place.http}/v1/chat/completions"
    async with session.post(url, json=CHAT, headers=headers) as reply:
        assert reply.status == 200, await reply.text()
        return reply.headers, await reply.read()


@contextlib.asynccontextmanager
async def connected(address, context):
    """Reader and writer of a connection, of which nothing is left."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port_of(address), ssl=context, server_hostname="localhost"
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def shown(address):
    """The certificate that a new connection is shown."""
    context = client_context(shows=client_certificate("clients"))
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with connected(address, context) as (_, writer):
        return read_peer(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))


async def test_everything_over_mtls_and_no_key_where_it_does_not_belong(place):
    gateway = place.gateway
    seen = []
    async with grpc_client(gateway) as client, http_client() as session:
        call = client.infer(ask(), (("authorization", f"Bearer {MINE}"), ("x-api-key", MINE)))
        seen.append(str((await call, await call.trailing_metadata())))
        answers = [m async for m in client.stream(ask(stream_every=1))]
        assert answers
        seen.append(str(await chat(session, place)))
        endpoints = await gateway.endpoints()
        assert {one["state"] for one in endpoints.values()} == {"healthy"}

        async def loads():
            told = (await gateway.endpoints()).values()
            return all(one["load"] is not None for one in told)

        await until(loads, "every page of metrics being read")
    for path in ("/snapshot", "/metrics", "/readyz"):
        status, body = await get(gateway.admin, path, client_context(), TOKEN)
        assert status == 200
        seen.append(body)
        stranger = client_context()
        assert (await get(gateway.admin, path, stranger))[0] == (200 if path == "/readyz" else 401)
    assert (await get(gateway.admin, "/healthz", client_context()))[0] == 200
    assert (await gateway.readiness())[1]["status"] == "ready"
    told = (await gateway.metrics())["carbon_router_tls_certificate_expiry_timestamp_seconds"]
    assert {labels["source"] for labels, _ in told} == {
        "server.tls", "server.admin_tls", "backends.tls",
    }  # fmt: skip
    for text in (*seen, gateway.log.read_text()):
        for secret in (BACKEND_KEY, TOKEN, MINE, "PRIVATE KEY"):
            assert secret not in text


async def test_a_terminal_needs_the_authority_and_the_token(place):
    authority().write(place.folder, "root")
    port = port_of(place.gateway.admin)

    def top(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "router.cli", "top", f"https://localhost:{port}", "--once",
             *arguments],
            capture_output=True, text=True, timeout=60, check=False,
            env=os.environ | {"ADMIN_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    ca = ("--ca", str(place.folder / "root.pem"))
    stranger, keyless, known = await asyncio.gather(
        asyncio.to_thread(top),
        asyncio.to_thread(top, *ca),
        asyncio.to_thread(top, *ca, "--key-env", "ADMIN_TOKEN"),
    )
    assert (stranger.returncode, keyless.returncode) == (1, 1)
    assert "certificate" in stranger.stderr
    assert "401" in keyless.stderr
    assert known.returncode == 0, known.stderr
    assert "carbon-first" in known.stdout
    assert TOKEN not in stranger.stderr + keyless.stderr + known.stdout


async def test_who_is_not_known_gets_nowhere(place):
    gateway = place.gateway
    for shows in (None, client_certificate("strangers")):
        credentials = grpc.ssl_channel_credentials(
            authority().root, shows.key if shows else None, shows.chain if shows else None
        )
        target = f"localhost:{port_of(gateway.address)}"
        async with grpc.aio.secure_channel(target, credentials, options=QUICK) as channel:
            assert (await Client(channel).refusal())[0] == "UNAVAILABLE"
        context = client_context(shows=shows)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"https://{place.http}/v1/models")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://{place.http}/v1/models")
    async with gateway.client() as client:
        assert (await client.refusal())[0] == "UNAVAILABLE"
    failed = await gateway.total("tls_handshakes_failed_total", source="server.tls")
    assert failed >= 3
    async with grpc_client(gateway) as client:
        await client.receipt()


class Load:
    """Callers of both fronts that never pause; some connect anew each time."""

    def __init__(self, place):
        self.place = place
        self.failures = []
        self.answered = 0

    async def over_grpc(self, client):
        await client.receipt()

    async def loop(self, call):
        while True:
            try:
                await call()
                self.answered += 1
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self.failures.append(repr(error))
                await asyncio.sleep(0.05)

    async def anew_over_grpc(self):
        async with grpc_client(self.place.gateway) as client:
            await client.receipt()

    async def anew_over_http(self):
        async with http_client() as session:
            await chat(session, self.place)

    async def more(self):
        """Return when some more were answered since."""
        before = self.answered

        async def answered():
            return self.answered >= before + 30

        await until(answered, "answers")


@contextlib.asynccontextmanager
async def under_load(place):
    load = Load(place)
    async with (
        grpc_client(place.gateway) as client,
        http_client() as session,
        asyncio.TaskGroup() as tasks,
    ):
        calls = (client.receipt, lambda: chat(session, place), load.anew_over_grpc,
                 load.anew_over_http)  # fmt: skip
        running = [tasks.create_task(load.loop(call)) for call in calls]
        await load.more()
        try:
            yield load
        finally:
            for task in running:
                task.cancel()
    assert load.failures == []


async def test_certificates_change_under_load_and_no_call_notices(place):
    gateway = place.gateway
    ejections = await gateway.total("ejections_total")
    async with under_load(place) as load:
        for kind in ("rsa", "ec"):
            new = server_certificate(kind=kind)
            place.write("gateway", new)
            wanted = read_peer(new.der)
            for address in (gateway.address, place.http, gateway.admin):

                async def is_new(address=address, wanted=wanted):
                    return await shown(address) == wanted

                await until(is_new, f"the new certificate at {address}")
            await load.more()

        async def total():
            return await gateway.total("trust_reloads_total", outcome="applied")

        before = await total()
        place.write("ours", client_certificate("fleet clients"))

        async def applied():
            return await total() > before

        await until(applied, "the new certificate towards endpoints")
        await load.more()
        (place.folder / "backend-key").write_text(BACKEND_KEY)
        await load.more()
    async with grpc_client(gateway) as client:
        await client.receipt()
    assert await gateway.total("ejections_total") == ejections


async def test_a_half_written_pair_is_told_and_the_one_before_serves_on(place):
    gateway = place.gateway
    before = await shown(gateway.address)
    new = server_certificate()
    async with under_load(place) as load:
        (place.folder / "gateway.crt").write_bytes(new.chain[:200])

        async def refused():
            reasons = (await gateway.readiness())[1]["reasons"]
            return [one for one in reasons if one["reason"] == "trust_refused"]

        (first, *_) = await until(refused, "the refusal being told")
        assert "server.tls.cert_file" in first["detail"]
        assert (await gateway.readiness())[0] == 200
        assert await shown(gateway.address) == before
        await load.more()
        place.write("gateway", new)

        async def mended():
            return await shown(gateway.address) == read_peer(new.der) and not await refused()

        await until(mended, "the new pair")
    assert await gateway.total("trust_reloads_total", outcome="refused") >= 1
    told = [line for line in gateway.log.read_text().splitlines() if '"refused, what' in line]
    assert len(told) <= 2 + 2


async def test_a_reload_moves_an_endpoint_to_plaintext_and_back(place):
    gateway = place.gateway
    endpoints = gateway.config["endpoints"]
    async with grpc_client(gateway) as client:
        await client.receipt(x_residency="us")
        plain = [one if one["name"] != "near-0" else {**one, "address": f"grpc://{one['address']}"}
                 for one in endpoints]  # fmt: skip
        for wanted, changed in (("ejected", plain), ("healthy", endpoints)):
            gateway.write(endpoints=changed)
            gateway.tell(signal.SIGHUP)

            async def is_so(wanted=wanted):
                return (await gateway.endpoints())["near-0"]["state"] == wanted

            await until(is_so, f"near-0 being {wanted}")
        await client.receipt(x_residency="us")


async def test_a_file_that_names_no_certificate_does_not_start_and_a_reload_is_refused(place):
    gateway = place.gateway
    gateway.write(backends={**gateway.config["backends"], "tls": {"ca_file": "nowhere.pem"}})
    checked = subprocess.run(
        [sys.executable, "-m", "router.cli", "check", str(gateway.path)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert checked.returncode == 2
    assert "backends.tls.ca_file" in checked.stderr
    gateway.tell(signal.SIGHUP)

    async def refused():
        return [one for one in (await gateway.readiness())[1]["reasons"]
                if one["reason"] == "reload_refused"]  # fmt: skip

    assert "nowhere.pem" in (await until(refused, "the refusal"))[0]["detail"]
    async with grpc_client(gateway) as client:
        await client.receipt()
    gateway.write()
    gateway.tell(signal.SIGHUP)

    async def mended():
        return (await gateway.readiness())[1]["status"] == "ready"

    await until(mended, "the file being right again")


# What openssl makes of it

OPENSSL = which("openssl")


async def s_client(address, *arguments, sent=b"Q\n"):
    done = await asyncio.to_thread(
        subprocess.run,
        [OPENSSL, "s_client", "-connect", f"127.0.0.1:{port_of(address)}",
         "-servername", "localhost", *arguments],
        input=sent, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    return (done.stdout + done.stderr).decode(errors="replace")


async def renegotiated(address, *arguments):
    """What comes of a client that begins a handshake of TLS 1.2 again, until it ends of itself."""
    process = await asyncio.create_subprocess_exec(
        OPENSSL, "s_client", "-connect", f"127.0.0.1:{port_of(address)}", "-tls1_2", *arguments,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(30):
        await process.stdout.readuntil(b"Verify return code")
        process.stdin.write(b"R\n")
        ended = await process.stdout.read()
    await process.wait()
    _, began, after = ended.decode(errors="replace").partition("RENEGOTIATING")
    assert began
    return after


@pytest.mark.skipif(OPENSSL is None, reason="LOUD: openssl is not installed, TLS was not probed")
async def test_openssl_finds_two_versions_and_nothing_weak(place):
    mine = client_certificate("clients")
    cert, key = mine.write(place.folder, "probe")
    shows = ("-cert", str(cert), "-key", str(key))
    for address, protocol in ((place.gateway.address, "h2"), (place.http, "http/1.1")):
        for version in ("-tls1_2", "-tls1_3"):
            told = await s_client(address, version, "-alpn", protocol, *shows)
            assert f"ALPN protocol: {protocol}" in told, told
            assert "Compression: NONE" in told
        for refused in (
            ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
            ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
            ("-tls1_2", "-cipher", "AES128-SHA:AES256-GCM-SHA384:@SECLEVEL=0"),
            ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0"),
            ("-tls1_2", "-cipher", "aNULL:eNULL:@SECLEVEL=0"),
        ):
            told = await s_client(address, *refused, *shows)
            assert "Cipher is (NONE)" in told, told
        # Refused by an alert, an end or a reset; a handshake would look at certificates again.
        told = await renegotiated(address, "-alpn", protocol, *shows)
        assert "depth=" not in told, told
    async with grpc_client(place.gateway) as client:
        await client.receipt()


# Floods of frames by hand


FIELDS = (
    (b":method", b"POST"), (b":scheme", b"https"), (b":path", SERVICE.encode() + b"ModelInfer"),
    (b":authority", b"t"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
)  # fmt: skip
BLOCK = b"".join(literal(name, value) for name, value in FIELDS)


def reset(number):
    """A call, and its end before its answer."""
    stream, message = 2 * number + 1, ask()
    body = b"\x00" + struct.pack(">I", len(message)) + message
    return (
        frame(HEADERS, END_HEADERS, stream, BLOCK)
        + frame(DATA, END_STREAM, stream, body)
        + frame(RST_STREAM, 0, stream, b"\x00\x00\x00\x08")
    )


FLOODS = {"pings": lambda number: frame(PING, 0, 0, number.to_bytes(8, "big")), "resets": reset}


async def flood(gateway, frames, most=10**9):
    """Send ``most`` frames, or as many as the server takes; whether it closed the connection."""
    context = client_context(shows=client_certificate("clients"))
    context.set_alpn_protocols(["h2"])
    number = 0
    async with connected(gateway.address, context) as (reader, writer):
        writer.write(PREFACE + frame(SETTINGS, 0, 0))
        with contextlib.suppress(OSError):
            while not reader.at_eof():
                if number >= most:
                    return False
                writer.write(b"".join(frames(number + one) for one in range(50)))
                number += 50
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.005):
                        await reader.read(65_536)
    return True


@pytest.mark.parametrize("frames", FLOODS.values(), ids=FLOODS)
async def test_a_flood_of_frames_is_closed_and_others_are_served(place, frames):
    async with under_load(place) as load:
        async with asyncio.timeout(60):
            assert await asyncio.gather(*(flood(place.gateway, frames) for _ in range(2)))
        await load.more()


async def test_a_flood_that_is_not_closed_keeps_nobody_from_being_served(place):
    """gRPC answers every SETTINGS, and lets its sender go on."""

    def settings(number):
        return frame(SETTINGS, 0, 0, b"\x00\x03\x00\x00\x00\x64")

    async with under_load(place) as load, asyncio.TaskGroup() as tasks:
        floods = [tasks.create_task(flood(place.gateway, settings, 20_000)) for _ in range(2)]
        await load.more()
        await asyncio.wait(floods)


async def test_a_flood_of_handshakes_that_fail_writes_few_lines(spawn, tmp_path):
    config = base(pair())
    server_certificate().write(tmp_path)
    authority("clients").write(tmp_path)
    (http,) = free_ports(1)
    config["server"] |= {
        "http": f"127.0.0.1:{http}",
        "tls": {"cert_file": "server.crt", "key_file": "server.key", "client_ca_file": "ca.pem"},
    }
    spawn(emulator, config)
    # As it is where nobody says how much gRPC should write.
    gateway = spawn(lambda *given: Gateway(*given, env={"GRPC_VERBOSITY": None}), config)
    context = client_context(shows=client_certificate("strangers"))

    def ask_in_vain(port, given):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            end = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10.0))
            if given is not None:
                end = stack.enter_context(given.wrap_socket(end, server_hostname="localhost"))
            end.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while end.recv(4096):
                pass

    for _ in range(40):
        for port in (port_of(gateway.address), http):
            for given in (context, None):
                await asyncio.to_thread(ask_in_vain, port, given)
    async with grpc_client(gateway) as client:
        await client.receipt()
    assert len(gateway.log.read_text(errors="replace").splitlines()) < 60

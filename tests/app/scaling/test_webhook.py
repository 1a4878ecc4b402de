"""Hints over HTTP: a real server, real certificates."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from router.app.scaling.webhook import Webhook
from router.clock import WallClock
from router.config.settings import (
    EndpointCredentials,
    EndpointTls,
    PemFiles,
    SecretSpec,
    WebhookSettings,
)
from router.errors import ConfigError, HintNotTakenError
from tests.fakes.authority import Authority

AT = "scaling.webhook"


class Receiver:
    """Answers with each status in turn, the last one for ever; 0: not at all."""

    def __init__(self, *statuses):
        self.statuses = list(statuses) or [200]
        self.told = []
        self.free = asyncio.Event()

    async def take(self, request):
        self.told.append((request.headers.copy(), await request.read()))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if not status:
            await self.free.wait()
        headers = {"location": "/elsewhere"} if status == 302 else {}
        return web.Response(status=status or 200, headers=headers)

    @asynccontextmanager
    async def listening(self, context=None):
        app = web.Application()
        app.router.add_post("/replicas", self.take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        try:
            yield site._server.sockets[0].getsockname()[1]
        finally:
            self.free.set()
            await runner.cleanup()


def hook(port, tries=3, timeout_s=5.0, tls=None, key=None, environ=None):
    scheme = "http" if tls is None else "https"
    url = f"{scheme}://127.0.0.1:{port}/replicas"
    settings = WebhookSettings(url, timeout_s, tries, tls, key)
    return Webhook(settings, WallClock(), environ or {}, pause_s=0.001)


def key_in(file, scheme="Bearer", header="authorization"):
    return EndpointCredentials(f"{AT}.credentials", header, scheme, SecretSpec("", file))


async def test_a_hint_is_sent_as_json_with_the_key_that_is_in_the_file_now(tmp_path):
    receiver, file = Receiver(), tmp_path / "key"
    file.write_text("first\n")
    async with receiver.listening() as port:
        webhook = hook(port, key=key_in(file))
        await webhook.tell(b'{"a": 1}')
        file.write_text("second")
        await webhook.tell(b"{}")
    (first, body), (second, _) = receiver.told
    assert body == b'{"a": 1}' and first["content-type"] == "application/json"
    assert [first["authorization"], second["authorization"]] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("statuses", "calls", "told"),
    [
        ([503, 429, 204], 3, ""),
        ([500], 3, "HTTP 500"),
        ([404], 1, "HTTP 404"),
        ([302], 1, "HTTP 302"),
        ([0], 2, "no answer within 0.2 s"),
    ],
)
async def test_what_may_pass_is_tried_again_and_what_is_refused_is_not(statuses, calls, told):
    receiver = Receiver(*statuses)
    slow = 0 in statuses
    async with receiver.listening() as port:
        webhook = hook(port, tries=2 if slow else 3, timeout_s=0.2 if slow else 5.0)
        if told:
            with pytest.raises(HintNotTakenError, match=told):
                await webhook.tell(b"{}")
        else:
            await webhook.tell(b"{}")
    assert len(receiver.told) == calls


async def test_nobody_there_is_told_so():
    async with Receiver().listening() as port:
        pass
    with pytest.raises(HintNotTakenError, match="connection failed"):
        await hook(port, tries=2).tell(b"{}")


async def test_over_tls_it_goes_to_whom_its_authority_knows_alone(tmp_path):
    authority, stranger = Authority(), Authority("another")
    certificate, key = authority.issue("127.0.0.1").write(tmp_path)
    own = authority.issue("gateway", common_name="gateway").write(tmp_path, "own")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority.write(tmp_path))
    context.verify_mode = ssl.CERT_REQUIRED
    ca, other = authority.write(tmp_path), stranger.write(tmp_path, "other")
    receiver = Receiver()
    async with receiver.listening(context) as port:
        mine = EndpointTls(AT, PemFiles(*own, ca), "")
        await hook(port, tls=mine).tell(b"{}")
        with pytest.raises(HintNotTakenError, match="TLS failed"):
            await hook(port, 1, tls=EndpointTls(AT, PemFiles(*own, other), "")).tell(b"{}")
        with pytest.raises(HintNotTakenError, match="TLS failed"):
            named = mine._replace(server_name="else.example")
            await hook(port, 1, tls=named).tell(b"{}")
    assert len(receiver.told) == 1


async def test_what_cannot_be_used_is_told_at_the_start_and_later_and_shows_no_key(tmp_path):
    with pytest.raises(ConfigError, match=r"scaling\.webhook\.credentials\.file"):
        hook(1, key=key_in(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=r"scaling\.webhook\.ca_file"):
        hook(1, tls=EndpointTls(AT, PemFiles(None, None, tmp_path / "missing"), ""))
    file = tmp_path / "key"
    file.write_text("clé-secrète")
    with pytest.raises(ConfigError, match="not ASCII") as caught:
        hook(1, key=key_in(file))
    assert "secr" not in str(caught.value)
    file.write_text("key")
    webhook = hook(1, key=key_in(file))
    file.unlink()
    with pytest.raises(HintNotTakenError, match=r"missing|cannot be read"):
        await webhook.tell(b"{}")

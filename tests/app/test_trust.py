"""Certificates, keys and tokens of a process: built, watched, replaced, refused."""

import asyncio
import datetime
import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from router.app.loading import load
from router.app.trust import Trust
from router.clock import WallClock
from router.config.settings import ClientAuth
from router.errors import ConfigError
from router.trust.jws import key_id
from tests.config.samples import write
from tests.fakes.secure import authority, client_certificate, server_certificate
from tests.trust.test_receipt_keys import private

HOUR = datetime.timedelta(hours=1)
HERE = "127.0.0.1:9001"
THERE = "127.0.0.1:9002"


class Told:
    """A `TrustListener` that remembers."""

    def __init__(self):
        self.known = ()
        self.expires_at = {}
        self.reloads = []
        self.handshakes = []

    def know(self, sources):
        self.known = sorted(sources)

    def show(self, expires_at):
        self.expires_at = dict(expires_at)

    def reloaded(self, source, outcome):
        self.reloads.append((source, outcome))

    def handshake_failed(self, source, reason):
        self.handshakes.append((source, reason))


class Renewals:
    """A backend that notes whose connections are made anew."""

    def __init__(self, error=None):
        self.addresses = []
        self.error = error

    async def renew(self, address):
        self.addresses.append(address)
        if self.error is not None:
            raise self.error


@pytest.fixture
def files(tmp_path):
    """The keys of a configuration whose files are there."""
    (tmp_path / "token").write_text("admin-t0ken\n")
    (tmp_path / "key").write_text("backend-k3y\n")
    server_certificate().write(tmp_path)
    client_certificate().write(tmp_path, "client")
    authority().write(tmp_path)
    return {
        "server/tls": {
            "cert_file": "server.crt", "key_file": "server.key", "client_ca_file": "ca.pem",
        },
        "server/admin_tls": {"cert_file": "server.crt", "key_file": "server.key"},
        "server/admin_token_file": "token",
        "backends/tls": {"ca_file": "ca.pem", "cert_file": "client.crt", "key_file": "client.key"},
        "backends/credentials": {"file": "key"},
        "endpoints/1/address": f"grpc://{THERE}",
        "endpoints/1/credentials": {"header": "x-api-key", "env": "KEY"},
    }  # fmt: skip


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def build(tmp_path, files, told):
    def built(changes=None):
        config = load(write(tmp_path, {**files, **(changes or {})}))
        return Trust(config, WallClock(), {"KEY": "other-k3y"}, told)

    return built


def names(trust):
    return [source.name for source in trust._sources()]


def reasons(trust):
    return {note.reason: note.detail for note in trust.notes()}


def test_everything_that_the_file_names_is_there(build, told):
    trust = build()
    assert trust.server.client_auth is ClientAuth.REQUIRED
    assert trust.admin.client_auth is ClientAuth.NONE
    assert trust.admin_token.value.equals("admin-t0ken")
    assert trust.access.security(HERE).source.value.chain
    assert trust.access.security(THERE) is None
    assert trust.access.sent(HERE, ()) == [("authorization", "Bearer backend-k3y")]
    assert trust.access.sent(THERE, ()) == [("x-api-key", "other-k3y")]
    assert told.known == sorted(
        ["server.tls", "server.admin_tls", "server.admin_token_file", "backends.tls",
         "backends.credentials.file", "endpoints[1].credentials.env"]
    )  # fmt: skip
    assert set(told.expires_at) == {"server.tls", "server.admin_tls", "backends.tls"}
    assert trust.notes() == []


def test_nothing_named_is_nothing_there(tmp_path):
    trust = Trust(load(write(tmp_path)), WallClock(), {})
    assert trust.server is trust.admin is trust.admin_token is None
    assert trust.access.security(HERE) is None
    assert trust.notes() == trust.summary() == []


def test_what_is_in_force_is_told_in_words_without_a_key(build):
    told = "\n".join(build().summary())
    assert "server.tls: a certificate for localhost, 127.0.0.1, ::1, until 2" in told
    assert "server.tls: client certificates: required" in told
    assert "backends.tls: a certificate for spiffe://example.org/batch" in told
    for secret in ("t0ken", "k3y", "PRIVATE"):
        assert secret not in told


def test_every_wrong_file_is_told_at_once(tmp_path, build):
    (tmp_path / "server.key").write_bytes(server_certificate().key)
    (tmp_path / "token").write_text("")
    with pytest.raises(ConfigError) as caught:
        build()
    assert caught.value.file == str(tmp_path / "config.yaml")
    assert [key for key, _ in caught.value.problems] == [
        "server.tls.key_file", "server.admin_tls.key_file", "server.admin_token_file",
    ]  # fmt: skip


def test_endpoints_files_are_told_by_where_they_stand(tmp_path, build):
    (tmp_path / "client.crt").unlink()
    (tmp_path / "key").write_text("ключ")
    with pytest.raises(ConfigError) as caught:
        build({"endpoints/1/credentials": {"env": "NOWHERE"}})
    problems = dict(caught.value.problems)
    assert set(problems) == {
        "backends.tls.cert_file", "backends.credentials.file", "endpoints[1].credentials.env",
    }  # fmt: skip
    assert "not ASCII" in problems["backends.credentials.file"]
    assert "ключ" not in str(caught.value)


async def test_a_new_certificate_is_in_force_and_connections_are_made_anew(tmp_path, build, told):
    trust, backend = build(), Renewals()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(trust.run([backend]))
        before = trust.server.source.value
        server_certificate().write(tmp_path)
        await trust.look()
        assert trust.server.source.value != before
        assert backend.addresses == []
        client_certificate().write(tmp_path, "client")
        await trust.look()
        async with asyncio.timeout(20.0):
            while backend.addresses != [HERE]:
                await asyncio.sleep(0.005)
        running.cancel()
    assert sorted(told.reloads) == [
        (name, "applied") for name in ("backends.tls", "server.admin_tls", "server.tls")
    ]
    assert trust.notes() == []


async def test_half_a_replacement_is_refused_once_and_told_until_it_is_whole(
    tmp_path, build, told, caplog
):
    trust = build()
    before = trust.server.source.value
    new = server_certificate()
    (tmp_path / "server.crt").write_bytes(new.chain)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await trust.look()
    assert trust.server.source.value is before
    assert told.reloads == [("server.tls", "refused"), ("server.admin_tls", "refused")]
    assert len(caplog.records) == 2
    assert "is not the key of" in reasons(trust)["trust_refused"]
    assert not any(note.blocking for note in trust.notes())
    (tmp_path / "server.key").write_bytes(new.key)
    await trust.look()
    assert trust.server.source.value.chain == new.chain
    assert trust.notes() == []


async def test_a_new_key_needs_no_new_connection(tmp_path, build):
    trust, backend = build(), Renewals()
    (tmp_path / "key").write_text("new-k3y")
    (tmp_path / "token").write_text("new-t0ken")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(trust.run([backend]))
        await trust.look()
        await asyncio.sleep(0)
        running.cancel()
    assert trust.access.sent(HERE, ()) == [("authorization", "Bearer new-k3y")]
    assert trust.admin_token.value.equals("new-t0ken")
    assert backend.addresses == []


async def test_a_backend_that_cannot_be_renewed_stops_nothing(tmp_path, build, caplog):
    trust, backend = build(), Renewals(RuntimeError("defect"))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(trust.run([backend]))
        for count in (1, 2):
            client_certificate().write(tmp_path, "client")
            await trust.look()
            async with asyncio.timeout(20.0):
                while len(backend.addresses) < count:
                    await asyncio.sleep(0.005)
        running.cancel()


def test_a_certificate_near_its_end_is_told_before_and_after(tmp_path, build):
    authority().issue("a", begins=-10 * HOUR, ends=HOUR / 2).write(tmp_path)
    trust = build()
    assert "expires at 2" in reasons(trust)["certificate_expires"]
    trust._clock = type("Later", (), {"now": lambda self: WallClock().now() + 7200})()
    assert "expired at 2" in reasons(trust)["certificate_expired"]


# A reload


def reloaded(tmp_path, trust, files, changes):
    config = load(write(tmp_path, {**files, **changes}))
    trust.adopt(trust.prepare(config))


def test_a_reload_renews_those_who_are_reached_otherwise_and_no_others(tmp_path, build, files):
    trust = build()
    source = trust.access.security(HERE).source
    reloaded(tmp_path, trust, files, {})
    assert trust._changed == set()
    assert trust.access.security(HERE).source is source
    reloaded(tmp_path, trust, files, {"endpoints/1/address": f"grpcs://{THERE}"})
    assert trust._changed == {THERE}
    assert trust.access.security(THERE).source is source


def test_a_reload_that_is_wrong_changes_nothing(tmp_path, build, files):
    trust = build()
    before = trust.access.security(HERE)
    with pytest.raises(ConfigError):
        reloaded(tmp_path, trust, files, {"backends/tls": {"ca_file": "nothing.pem"}})
    assert trust.access.security(HERE) is before
    assert trust.access.sent(HERE, ()) == [("authorization", "Bearer backend-k3y")]


def test_what_is_no_longer_named_is_no_longer_looked_at(tmp_path, build, files):
    trust = build()
    reloaded(tmp_path, trust, files, {"backends/credentials": {}, "backends/tls": {}})
    assert not [name for name in names(trust) if "credentials.file" in name]


def test_who_listens_to_strangers_because_it_is_told_to_says_so(tmp_path):
    path = write(tmp_path, {"server": {"listen": "0.0.0.0:8500", "insecure": True}})
    trust = Trust(load(path), WallClock(), {})
    assert "server.listen: 0.0.0.0:8500 is reached" in reasons(trust)["insecure"]


def test_handshakes_that_fail_are_counted_and_not_all_logged(build, told, caplog):
    trust = build()
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            trust.server.failed("certificate")
            trust.server.failed("gone")
    assert len(told.handshakes) == 200
    (line,) = caplog.records
    assert (line.source, line.reason) == ("server.tls", "certificate")


def test_paths_start_at_the_file(tmp_path, build):
    assert build().server.source._files[0] == Path(tmp_path) / "server.crt"


async def test_the_key_of_receipts_is_replaced_while_it_is_used(tmp_path, told):
    first, second = (Ed25519PrivateKey.generate() for _ in range(2))
    private(tmp_path / "sign.pem", first)
    config = load(write(tmp_path, {"receipts": {"sign": {"key_file": "sign.pem"}}}))
    trust = Trust(config, WallClock(), {}, told)
    kid = trust.receipt_keys.value.kid
    assert kid == key_id(first.public_key()) and "receipts.sign" in told.known
    assert any(kid in line for line in trust.summary())
    private(tmp_path / "sign.pem", second)
    await trust.look()
    assert trust.receipt_keys.value.kid == key_id(second.public_key())
    (tmp_path / "sign.pem").write_text("half")
    await trust.look()
    assert trust.receipt_keys.value.kid == key_id(second.public_key())
    assert told.reloads == [("receipts.sign", "applied"), ("receipts.sign", "refused")]
    assert [note.reason for note in trust.notes()][-1:] == ["trust_refused"]
    with pytest.raises(ConfigError, match=r"receipts\.sign\.key_file"):
        Trust(config, WallClock(), {})

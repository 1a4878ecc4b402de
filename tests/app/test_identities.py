"""Who may call, built from files and an issuer that change under a gateway that goes on."""

import asyncio
import logging
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry

from router.app.identities import IdentityKeeper
from router.config.identity import IdentitySchema
from router.config.settings import IdentitySettings
from router.errors import IdentityUnavailableError, UnauthenticatedError
from router.identity.principal import ANONYMOUS, Role
from router.identity.stored_keys import StoredKeys
from router.state.memory import MemoryStore
from router.telemetry.security import SecurityLog
from tests.identity.support import (
    EC_KEY,
    RSA_KEY,
    WallHands,
    bearer,
    jwk,
    jwks,
    jwt_said,
    key_text,
    keys_document,
    token,
    write_keys,
)

FIRST, SECOND = key_text("first"), key_text("second")
PATIENCE_S = 20.0


def settings(folder, **schema):
    return IdentitySettings(IdentitySchema.model_validate(schema), Path(folder))


def keeper(made, session=None, store=None):
    log = SecurityLog(CollectorRegistry(), lambda: 0.0)
    return IdentityKeeper(made, WallHands(), log, session or (lambda: None), lambda: 1, store)


def who(identities, text):
    try:
        return identities.access.admit((bearer(text),), Role.INFER).name
    except (UnauthenticatedError, IdentityUnavailableError) as error:
        return error.reason


async def until(condition):
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def events(caplog):
    return [record.event for record in caplog.records if record.name == "router.security"]


def test_left_out_nobody_is_asked():
    identities = keeper(IdentitySettings())
    assert identities.access.credentials is None
    assert identities.access.admit((), Role.OPERATOR) is ANONYMOUS


@pytest.fixture(autouse=True)
def quick(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("router.app.identities._LOOK_S", 0.01)
    monkeypatch.setattr("router.app.identities.LOOK_S", 0.01)


async def test_a_file_that_changes_is_read_again(tmp_path, caplog):
    write_keys(tmp_path, FIRST)
    identities = keeper(settings(tmp_path, keys_file="keys.yaml"))
    assert (who(identities, FIRST), who(identities, SECOND)) == ("a", "unauthenticated")
    write_keys(tmp_path, FIRST, SECOND)
    await identities.watch()
    assert (who(identities, FIRST), who(identities, SECOND)) == ("a", "a")
    write_keys(tmp_path, SECOND)
    await identities.watch()
    assert (who(identities, FIRST), who(identities, SECOND)) == ("unauthenticated", "a")
    assert "keys_loaded" in events(caplog)


async def test_a_file_that_is_wrong_leaves_the_keys_before(tmp_path, caplog):
    path = write_keys(tmp_path, FIRST)
    identities = keeper(settings(tmp_path, keys_file="keys.yaml"))
    path.write_text("version: 1\nprincipals: [{name: a, keys: [{id: secret, sha256: secret}]}]")
    await identities.watch()
    assert who(identities, FIRST) == "a"
    assert "keys_refused" in events(caplog)
    assert identities.refused
    path.unlink()
    await identities.watch()
    assert who(identities, FIRST) == "a"
    write_keys(tmp_path, SECOND)
    await identities.watch()
    assert (who(identities, FIRST), who(identities, SECOND)) == ("unauthenticated", "a")
    assert not identities.refused


def test_a_reload_puts_other_keys_in_force_or_leaves_those_before(tmp_path):
    write_keys(tmp_path, FIRST)
    write_keys(tmp_path, SECOND, name="others.yaml")
    identities = keeper(settings(tmp_path, keys_file="keys.yaml"))
    identities.adopt(settings(tmp_path, keys_file="others.yaml"))
    assert (who(identities, FIRST), who(identities, SECOND)) == ("unauthenticated", "a")
    identities.adopt(settings(tmp_path, keys_file="missing.yaml"))
    assert who(identities, SECOND) == "a"
    identities.adopt(IdentitySettings())
    assert identities.access.admit((), Role.INFER) is ANONYMOUS


class Issuer:
    """Publishes keys over HTTP on loopback."""

    def __init__(self):
        self.body = jwks(jwk(RSA_KEY, "r1"))
        self.status = 200
        self.looks = 0

    async def answer(self, _):
        self.looks += 1
        return web.Response(status=self.status, body=self.body, headers={"location": "/jwks"})


@pytest.fixture
async def issuer():
    made = Issuer()
    app = web.Application()
    app.router.add_get("/jwks", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    yield made
    await runner.cleanup()


async def test_an_issuers_keys_are_fetched_and_followed(issuer, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("router.identity.jwks.JwksRefresher.__init__.__defaults__", (0.01,))
    async with ClientSession() as session:
        identities = keeper(settings(tmp_path, jwt=jwt_said(jwks_url=issuer.url)), lambda: session)
        assert who(identities, token()) == "identity_unavailable"
        following = asyncio.ensure_future(identities.follow())
        await until(lambda: who(identities, token()) == "jwt:batch")
        # The issuer goes on to another key; whoever has its tokens is asked to wait a moment.
        issuer.body = jwks(jwk(EC_KEY, "e1"))
        fresh = token(key=EC_KEY, kid="e1", algorithm="ES256")
        assert who(identities, fresh) == "identity_unavailable"
        await until(lambda: who(identities, fresh) == "jwt:batch")
        # It goes away: what was known stays.
        issuer.status = 503
        looks = issuer.looks
        assert who(identities, token(kid="r7")) in ("identity_unavailable", "unauthenticated")
        await until(lambda: issuer.looks > looks)
        await until(lambda: who(identities, token(kid="r7")) == "unauthenticated")
        assert who(identities, fresh) == "jwt:batch"
        assert {"issuer_keys_loaded", "issuer_keys_failed"} <= set(events(caplog))
        following.cancel()


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_only_a_plain_answer_is_a_key_set(issuer, tmp_path, status, caplog):
    issuer.status = status
    async with ClientSession() as session:
        identities = keeper(settings(tmp_path, jwt=jwt_said(jwks_url=issuer.url)), lambda: session)
        following = asyncio.ensure_future(identities.follow())
        await until(lambda: "issuer_keys_failed" in events(caplog))
        assert who(identities, token()) == "identity_unavailable"
        assert issuer.looks >= 1
        following.cancel()


async def test_keys_may_come_from_a_file_and_a_reload_may_take_them(tmp_path):
    (tmp_path / "jwks.json").write_bytes(jwks(jwk(RSA_KEY, "r1")))
    made = settings(tmp_path, jwt=jwt_said(jwks_file="jwks.json"))
    identities = keeper(made)
    following = asyncio.ensure_future(identities.follow())
    await until(lambda: who(identities, token()) == "jwt:batch")
    # The same issuer stays known through a reload.
    identities.adopt(made)
    assert who(identities, token()) == "jwt:batch"
    write_keys(tmp_path, FIRST)
    identities.adopt(settings(tmp_path, keys_file="keys.yaml"))
    assert (who(identities, token()), who(identities, FIRST)) == ("unauthenticated", "a")
    following.cancel()


async def put_keys(store, *texts):
    async def nobody():
        """Nobody else is at it."""

    stored = StoredKeys(store, WallHands().now)
    await stored.replace(keys_document(*texts).encode(), await stored.head(), nobody)


def reasons(identities):
    return [(one.reason, one.blocking) for one in identities.notes()]


async def test_keys_in_a_store_are_in_force_beside_those_in_a_file(tmp_path):
    store = MemoryStore()
    write_keys(tmp_path, FIRST)
    identities = keeper(settings(tmp_path, keys_file="keys.yaml", keys_in_store=True), store=store)
    # Whether the second is in the store nobody knows so far.
    assert (who(identities, FIRST), who(identities, SECOND)) == ("a", "identity_unavailable")
    assert who(identities, "crk_no-key") == "unauthenticated"
    await identities.start()
    assert reasons(identities) == [("keys_unread", False)]
    await put_keys(store, SECOND)
    await identities.look()
    assert (who(identities, FIRST), who(identities, SECOND)) == ("a", "a")
    assert reasons(identities) == []
    # A change of either leaves the other's.
    write_keys(tmp_path)
    await identities.watch()
    assert (who(identities, FIRST), who(identities, SECOND)) == ("unauthenticated", "a")
    write_keys(tmp_path, FIRST)
    await identities.watch()
    await put_keys(store)
    await identities.look()
    assert (who(identities, FIRST), who(identities, SECOND)) == ("a", "unauthenticated")


async def test_a_key_in_both_is_as_the_file_says(tmp_path):
    store = MemoryStore()
    other = key_text("first", "x" * 43)
    write_keys(tmp_path, FIRST)
    await put_keys(store, other)
    identities = keeper(settings(tmp_path, keys_file="keys.yaml", keys_in_store=True), store=store)
    await identities.start()
    assert (who(identities, FIRST), who(identities, other)) == ("a", "unauthenticated")


async def test_a_reload_keeps_what_was_read_from_the_store_or_drops_it(tmp_path):
    store = MemoryStore()
    await put_keys(store, SECOND)
    identities = keeper(settings(tmp_path, keys_in_store=True), store=store)
    assert reasons(identities) == [("keys_unread", True)]
    await identities.start()
    write_keys(tmp_path, FIRST)
    identities.adopt(settings(tmp_path, keys_file="keys.yaml", keys_in_store=True))
    assert (who(identities, FIRST), who(identities, SECOND)) == ("a", "a")
    identities.adopt(settings(tmp_path, keys_file="keys.yaml"))
    assert (who(identities, FIRST), who(identities, SECOND)) == ("a", "unauthenticated")
    await identities.look()
    assert who(identities, SECOND) == "unauthenticated"
    identities.adopt(settings(tmp_path, keys_in_store=True))
    assert who(identities, SECOND) == "identity_unavailable"
    await identities.look()
    assert who(identities, SECOND) == "a"


def test_keys_in_a_store_need_one(tmp_path):
    write_keys(tmp_path, FIRST)
    identities = keeper(settings(tmp_path, keys_file="keys.yaml"))
    identities.adopt(settings(tmp_path, keys_in_store=True))
    assert "takes a restart" in identities.refused
    assert who(identities, FIRST) == "a"

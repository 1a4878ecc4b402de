"""A whole gateway with keys: who may what, and that no key is ever seen again."""

import hashlib
import json
import signal

import yaml

from tests.e2e.harness import (
    MODEL,
    Gateway,
    ask,
    base,
    emulator,
    get,
    http,
    pair,
    until,
)
from tests.ports import free_ports

SECRET = "Zq7Xw1Vb" * 5 + "abc"


def key_of(key_id):
    return f"crk_{key_id:a<12}_{SECRET}"


CHAT, EUROPE, STEERING, LATER, SLOW = map(key_of, ("chat", "europe", "steering", "later", "slow"))
STRANGER = key_of("stranger")


def entry(text, name, **may):
    key = {"id": text[4:16], "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return {"name": name, **may, "keys": [key]}


PRINCIPALS = [
    entry(CHAT, "chat", tenant="acme"),
    entry(EUROPE, "europe", tenant="eu", residency=["eu"], models=[MODEL]),
    entry(STEERING, "steering", roles=["control"]),
    entry(SLOW, "slow", limits={"requests_per_s": 0.01}),
]


def write_keys(folder, *more):
    aside = folder / "keys.aside"
    aside.write_text(yaml.safe_dump({"version": 1, "principals": [*PRINCIPALS, *more]}))
    aside.replace(folder / "keys.yaml")


def bearer(text):
    return (("authorization", f"Bearer {text}"),)


async def who_may_what(client, folder):
    """Each plane's word to each caller. ``folder``: of the file of keys."""
    # Right, from anywhere; what a header says only narrows it.
    trailers = await client.infer(ask(), bearer(CHAT)).trailing_metadata()
    assert 'region="north"' in dict(trailers)["x-carbon"]
    call = client.infer(ask(), (*bearer(EUROPE), ("x-residency", "eu")))
    assert 'region="north"' in dict(await call.trailing_metadata())["x-carbon"]
    denied = {
        "nobody": (),
        "a stranger": bearer(STRANGER),
        "a header that is none": (("authorization", "Basic eA=="),),
    }
    for who, metadata in denied.items():
        code, reason, details = await client.refusal(metadata=metadata)
        assert (code, reason) == ("UNAUTHENTICATED", "unauthenticated"), who
        assert SECRET not in details
    wider = {"x_residency": "us", "x_tenant": "acme"}
    for header, value in wider.items():
        code, reason, details = await client.refusal(metadata=bearer(EUROPE), **{header: value})
        assert (code, reason) == ("PERMISSION_DENIED", "not_permitted"), header
        assert details.startswith(header.replace("_", "-"))
    assert (await client.refusal(metadata=bearer(STEERING)))[1] == "not_permitted"
    assert (await client.refusal(ask("other"), metadata=bearer(EUROPE)))[1] == "not_permitted"
    assert (await client.refusal(ask("other"), metadata=bearer(CHAT)))[1] == "model_unknown"
    await client.infer(ask(), bearer(SLOW))
    code, reason, _ = await client.refusal(metadata=bearer(SLOW))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "rate_limited")
    # A key that is added is taken, and one that is taken away is not.
    assert (await client.refusal(metadata=bearer(LATER)))[1] == "unauthenticated"
    write_keys(folder, entry(LATER, "later"))

    async def known():
        try:
            await client.infer(ask(), bearer(LATER))
        except Exception:
            return False
        return True

    await until(known, "the new key being known")


async def test_a_gateway_with_keys(spawn, tmp_path):
    config = base(pair(), identity={"keys_file": "keys.yaml"})
    config["server"]["http"] = f"127.0.0.1:{free_ports(1)[0]}"
    config["log"] = {"requests": {"file": "requests.csv"}}
    write_keys(tmp_path)
    spawn(emulator, config)
    gateway = spawn(Gateway, config)
    async with gateway.client() as client:

        async def answered():
            try:
                await client.infer(ask(), bearer(CHAT))
            except Exception:
                return False
            return True

        await until(answered, "an answer")
        await who_may_what(client, tmp_path)
        (tmp_path / "keys.yaml").write_text("version: 1\nprincipals: [{nme: a}]")

        async def told():
            return "keys_refused" in {
                reason["reason"] for reason in (await gateway.readiness())[1]["reasons"]
            }

        await until(told, "a wrong file being told of")
        await client.infer(ask(), bearer(CHAT))
        gateway.tell(signal.SIGHUP)
        await until(lambda: _refused(gateway), "the reload being refused")
        await client.infer(ask(), bearer(CHAT))
        write_keys(tmp_path)
        gateway.tell(signal.SIGHUP)
        await until(lambda: _applied(gateway), "the reload")
        assert (await client.refusal(metadata=bearer(LATER)))[1] == "unauthenticated"
    address = config["server"]["http"]
    assert http(address, "/v1/models")[0] == 401
    assert http(address, "/health")[0] == 200
    seen = [(await get(gateway.admin, path))[1] for path in ("/snapshot", "/metrics", "/readyz")]
    assert await gateway.total("security_events_total", event="unauthenticated") >= 4
    assert await gateway.total("security_events_total", event="rate_limited") >= 1
    gateway.tell(signal.SIGTERM)
    assert gateway.wait() == 0
    log = gateway.log.read_text()
    seen += [log, (tmp_path / "requests.csv").read_text()]
    assert all(SECRET not in page and "crk_" not in page for page in seen)
    lines = [json.loads(line) for line in log.splitlines() if line[:1] == "{"]
    audit = [line for line in lines if line["logger"] == "router.security" and "event" in line]
    assert {"unauthenticated", "not_permitted", "rate_limited", "first_use", "keys_loaded",
            "keys_refused"} <= {line["event"] for line in audit}  # fmt: skip
    why = {line.get("why") for line in audit}
    assert {"missing", "unknown_key", "malformed", "x-residency", "x-tenant", "model"} <= why
    assert "chat" in {line.get("principal") for line in audit}


async def _refused(gateway):
    return await gateway.total("reloads_total", outcome="refused") == 1


async def _applied(gateway):
    return await gateway.total("reloads_total", outcome="applied") == 1

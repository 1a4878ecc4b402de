"""A caller's own receipts for good: by id and as CSV, signed, whoever restarted in between."""

import asyncio
import csv
import io
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime

import aiohttp
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import OKPAlgorithm
from yarl import URL

from router.clock import WallClock
from tests.e2e.harness import CLEAN, GREEN, NEAR, Gateway, base, emulator, http, pair, until
from tests.e2e.test_http import Http
from tests.e2e.test_identity import entry, key_of
from tests.long import LONG
from tests.ports import free_ports

ACME, OTHER, ALONE, OPERATOR = map(key_of, ("acme", "other", "alone", "operator"))
ROLES = ["infer", "receipts"]
PRINCIPALS = [
    entry(ACME, "acme-app", tenant="acme", roles=ROLES),
    entry(OTHER, "other-app", tenant="other", roles=ROLES),
    entry(ALONE, "alone", roles=ROLES),
    entry(OPERATOR, "operator", tenant="ops", roles=["operator"]),
]
RECEIPTS = "/v1/carbon/receipts"


def new_key(path):
    """A key as a file, and its public half."""
    key = Ed25519PrivateKey.generate()
    aside = path.with_suffix(".aside")
    aside.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    aside.replace(path)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_name("old.pem").write_bytes(pem)
    return key


def configured(folder, **changes):
    (port,) = free_ports(1)
    config = base(
        pair(protocol="openai"),
        ledger={"dir": "ledger", **changes},
        identity={"keys_file": "keys.yaml"},
        receipts={"sign": {"key_file": "sign.pem", "old_key_files": ["old.pem"],
                           "issuer": "https://gateway.test"}},
    )  # fmt: skip
    config["server"]["http"] = f"127.0.0.1:{port}"
    (folder / "keys.yaml").write_text(yaml.safe_dump({"version": 1, "principals": PRINCIPALS}))
    new_key(folder / "sign.pem")
    return config


async def get(gateway, path, key="", **headers):
    """(status, headers, body)."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        given["authorization"] = f"Bearer {key}"
    url = URL(f"http://{gateway.config['server']['http']}{path}", encoded=True)
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=given) as reply,
    ):
        return reply.status, reply.headers, await reply.read()


async def answered(gateway, key):
    """The id of an answer."""
    async with aiohttp.ClientSession() as session:
        client = Http(session, gateway.config["server"]["http"])
        return (await client.carbon(authorization=f"Bearer {key}"))["id"]


async def ready(gateway):
    async def is_ready():
        return (await gateway.readiness())[1]["status"] == "ready"

    await until(is_ready, "the gateway is ready")


def command(*arguments):
    """(exit code, standard output, standard error) of a command of the product."""
    run = subprocess.run(
        [sys.executable, "-m", "router.cli", *map(str, arguments)], capture_output=True, timeout=120
    )
    return run.returncode, run.stdout, run.stderr


async def pages(gateway, key, query):
    """Rows of all pages, by the names of their columns, and how many pages there were."""
    rows, count, path = [], 0, f"{RECEIPTS}?{query}"
    while path:
        status, headers, body = await get(gateway, path, key)
        assert (status, headers["content-type"].partition(";")[0]) == (200, "text/csv"), body
        rows += csv.DictReader(io.StringIO(body.decode()))
        count += 1
        link = headers.get("link", "")
        path = link[1:].partition(">")[0]
        assert not link or link.endswith('; rel="next"')
    return rows, count


@pytest.mark.parametrize("how", [pytest.param(signal.SIGTERM, marks=LONG), signal.SIGKILL])
async def test_receipts_outlive_a_gateway_and_are_signed(spawn, tmp_path, how):
    config = configured(tmp_path)
    spawn(emulator, config)
    gateway = Gateway(tmp_path, config)
    try:
        await ready(gateway)
        mine = [await answered(gateway, ACME) for _ in range(3)]
        theirs, alone = await answered(gateway, OTHER), await answered(gateway, ALONE)
        status, _, in_memory = await get(gateway, f"{RECEIPTS}/{mine[0]}", ACME)
        assert status == 200 and "kept_in" not in json.loads(in_memory)

        async def written():
            return await gateway.total("ledger_rows_total", outcome="written") >= 5

        await until(written, "rows are on the disk")
    finally:
        gateway.tell(how)
        gateway.wait()
    gateway = spawn(Gateway, config)
    await ready(gateway)
    for decision_id, key in [*((one, ACME) for one in mine), (theirs, OTHER), (alone, ALONE)]:
        status, _, body = await get(gateway, f"{RECEIPTS}/{decision_id}", key)
        told = json.loads(body)
        assert (status, told.get("kept_in"), told.get("decision_id")) == (
            200, "ledger", decision_id,
        ), told  # fmt: skip
        assert told["outcome"] == "answered" and told["endpoint"] in (GREEN, NEAR)
    before, after = (
        json.loads(in_memory),
        json.loads((await get(gateway, f"{RECEIPTS}/{mine[0]}", ACME))[2]),
    )
    for figure in ("energy_j", "facility_energy_j", "gco2e", "output_tokens", "mean_g_per_kwh"):
        assert after[figure] == pytest.approx(before[figure], rel=1e-5, abs=2**-24), figure
    # Nobody else's, by whatever name; and nothing that is no id.
    for who, decision_id in [
        (OTHER, mine[0]), (ALONE, mine[0]), (ACME, theirs), (ACME, alone), (OPERATOR, mine[0]),
        (ACME, mine[0] + "0"), (ACME, mine[0][:-1]), (ACME, "../../etc/passwd"),
        (ACME, "%2e%2e%2fledger"), (ACME, "a-1-1-79a1b"), (ACME, "a-1-1-0"), (ACME, "f" * 4000),
    ]:  # fmt: skip
        status, _, body = await get(gateway, f"{RECEIPTS}/{decision_id}", who)
        assert status in (404, 400) and b"receipt_unknown" in body, (decision_id, body)
    # A library that nobody here wrote verifies it, by the keys that are published.
    _, headers, keys = await get(gateway, "/v1/carbon/keys")
    assert headers["content-type"].startswith("application/jwk-set+json")
    published = {one["kid"]: OKPAlgorithm.from_jwk(one) for one in json.loads(keys)["keys"]}
    head = jwt.get_unverified_header(after["jws"])
    assert (head["alg"], head["typ"]) == ("EdDSA", "carbon-receipt+json")
    signed = jwt.decode(after["jws"], published[head["kid"]], algorithms=["EdDSA"])
    assert signed == {**{k: v for k, v in after.items() if k != "jws"},
                      "iss": "https://gateway.test"}  # fmt: skip
    _, headers, alone_jws = await get(
        gateway, f"{RECEIPTS}/{mine[0]}", ACME, accept="application/jose"
    )
    assert headers["content-type"].startswith("application/jose")
    assert alone_jws.decode() == after["jws"]
    # The same at the command line.
    (tmp_path / "receipt.json").write_text(json.dumps(after))
    (tmp_path / "keys.json").write_bytes(keys)
    arguments = ("receipt", "verify", tmp_path / "receipt.json", "--keys", tmp_path / "keys.json")
    code, out, err = await asyncio.to_thread(command, *arguments)
    assert code == 0 and b"gco2e = facility_energy_j" in out, (out, err)
    (tmp_path / "receipt.json").write_text(json.dumps({**after, "gco2e": 0.0}))
    code, out, _ = await asyncio.to_thread(command, *arguments)
    assert code == 1 and b"gco2e: is not what was signed" in out
    await rotate(gateway, tmp_path, mine[0], json.dumps(after), arguments)
    assert gateway.stop() == 0


async def rotate(gateway, folder, decision_id, before, arguments):
    """Another key takes over while the gateway runs; what was signed before is verified still."""
    _, _, keys = await get(gateway, "/v1/carbon/keys")
    old = json.loads(keys)["keys"][0]["kid"]
    key = Ed25519PrivateKey.generate()
    aside = folder / "sign.aside"
    # What is half written is refused, and the key before stays in force.
    aside.write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    aside.replace(folder / "sign.pem")

    async def refused():
        reasons = (await gateway.readiness())[1]["reasons"]
        return any(one["reason"] == "trust_refused" for one in reasons)

    await until(refused, "a broken key is refused")
    assert (await get(gateway, f"{RECEIPTS}/{decision_id}", ACME))[0] == 200
    aside.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    aside.replace(folder / "sign.pem")

    async def rotated():
        _, _, keys = await get(gateway, "/v1/carbon/keys")
        return json.loads(keys)["keys"][0]["kid"] != old

    await until(rotated, "the new key is in force")
    _, _, keys = await get(gateway, "/v1/carbon/keys")
    (folder / "keys.json").write_bytes(keys)
    assert old in [one["kid"] for one in json.loads(keys)["keys"]]
    for text in (before, (await get(gateway, f"{RECEIPTS}/{decision_id}", ACME))[2].decode()):
        (folder / "receipt.json").write_text(text)
        code, out, _ = await asyncio.to_thread(command, *arguments)
        assert code == 0, out


async def test_a_period_as_csv_page_by_page_and_settled_figures_beside(spawn, tmp_path):
    config = configured(tmp_path, seal_rows=3)
    spawn(emulator, config)
    gateway = spawn(Gateway, config, "--workers", "2")
    await ready(gateway)
    day = datetime.fromtimestamp(WallClock().now(), UTC)
    ids = [await answered(gateway, ACME) for _ in range(8)]
    theirs = await answered(gateway, OTHER)

    async def written():
        return await gateway.total("ledger_rows_total", outcome="written") >= 9

    await until(written, "rows are on the disk")
    query = f"from={day:%Y-%m-%d}"
    rows, count = await pages(gateway, ACME, f"{query}&limit=3")
    assert sorted(row["decision_id"] for row in rows) == sorted(ids) and count == 3
    assert {row["tenant"] for row in rows} != {"acme"} and len({row["tenant"] for row in rows}) == 1
    assert all(row["settled_gco2e"] == "" for row in rows)
    for who, wanted in ((OTHER, [theirs]), (ALONE, [])):
        found, _ = await pages(gateway, who, query)
        assert [row["decision_id"] for row in found] == wanted
    # An operator may name a tenant, and nobody else.
    found, _ = await pages(gateway, OPERATOR, f"{query}&tenant=other")
    assert [row["decision_id"] for row in found] == [theirs]
    status, _, body = await get(gateway, f"{RECEIPTS}?{query}&tenant=other", ACME)
    assert status == 403, body
    for wrong in (
        "", "from=yesterday", f"{query}&to=1999-01-01", f"{query}&limit=0", f"{query}&after=../x",
        "from=1970-01-01", f"{query}&color=red", f"{query}&limit=1000000", f"{query}&{query}",
    ):  # fmt: skip
        status, _, body = await get(gateway, f"{RECEIPTS}?{wrong}", ACME)
        assert status == 400, (wrong, body)
    assert (await get(gateway, f"{RECEIPTS}?{query}"))[0] == 401
    code, out, err = await asyncio.to_thread(
        command, "ledger", "receipts", tmp_path / "ledger", "--from", f"{day:%Y-%m-%d}",
        "--tenant", "acme",
    )  # fmt: skip
    mine = [row["decision_id"] for row in csv.DictReader(io.StringIO(out.decode()))]
    assert code == 0 and sorted(mine) == sorted(ids), err
    assert gateway.stop() == 0
    prices = tmp_path / "measured.csv"
    hours = [datetime.fromtimestamp(day.timestamp() + 3600 * at, UTC) for at in (-1, 0, 1)]
    lines = [f"{zone},{hour:%Y-%m-%dT%H}:00:00Z,77" for hour in hours for zone in CLEAN]
    prices.write_text("\n".join(["grid_zone,hour,g_per_kwh", *lines]) + "\n")
    code, out, err = await asyncio.to_thread(
        command, "settle", tmp_path / "ledger", "--intensities", prices,
        "--at", f"{datetime.fromtimestamp(day.timestamp() + 7200, UTC):%Y-%m-%dT%H:%M}Z",
    )  # fmt: skip
    assert code == 0, err
    gateway = spawn(Gateway, config, "--workers", "2")
    await ready(gateway)
    status, _, body = await get(gateway, f"{RECEIPTS}/{ids[0]}", ACME)
    told = json.loads(body)
    rows, _ = await pages(gateway, ACME, query)
    assert len(rows) == 8
    settled = {row["settled_g_per_kwh"] for row in rows}
    assert settled == {"77"}, (settled, out)
    assert told["settled"]["g_per_kwh"] == 77 and told["mean_g_per_kwh"] != 77
    # Files that are broken are told of.
    files = sorted((tmp_path / "ledger" / "receipts").rglob("*.parquet"))
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    status, headers, body = await get(gateway, f"{RECEIPTS}?{query}", ACME)
    # Either worker's connections may have been all that there were.
    assert status == 200 and 1 <= int(headers["x-unread-files"]) <= len(files)
    status, _, body = await get(gateway, f"{RECEIPTS}/{ids[0]}", ACME)
    assert status == 503 and b"receipts_unreachable" in body
    assert http(gateway.admin, "/readyz")[0] == 200

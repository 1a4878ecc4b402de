"""What callers ask of receipts, against a ledger that a test scripts and one that is real."""

import asyncio
import csv
import io
import json
from dataclasses import replace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from router.clock import WallClock
from router.core.decision_ids import decision_id
from router.errors import ReceiptsUnreachableError
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.openai.receipts_api import ReceiptSources
from router.identity.principal import Principal, Role
from router.ledger.asking.ledger import AskedLedger
from router.ledger.sealed_files import seal_rows
from router.ledger.tables import RECEIPTS
from router.model import Request
from router.trust.jws import key_id, key_set
from router.trust.receipt_keys import ReceiptKeys
from tests.gateway.openai.support import serving
from tests.gateway.support import receipt
from tests.identity.support import access, held_key, key_text
from tests.ledger.rows import SEVEN_S, cells

PATH = "/v1/carbon/receipts"
HOUR = int(SEVEN_S // 3600)
DAY = "from=2026-11-30&to=2026-12-01"
MAY = Principal("reader", tenant="acme", roles=frozenset((Role.RECEIPTS,)))


def row(number, tenant, **changes):
    """Cells of a receipt."""
    names = [column.name for column in RECEIPTS.columns[2:]]
    told = dict(zip(names, cells(number + 1)[number], strict=True))
    told |= {
        "decision_id": decision_id("ab", number, 0.5, HOUR), "tenant": tenant, "model": "llama",
        "outcome": "answered", "basis": "average", "factors": "none", "energy_kind": "measured",
        "run_s": 1.0, **changes,
    }  # fmt: skip
    return tuple(told[name] for name in names)


@pytest.fixture
def folder(tmp_path):
    """A ledger of two tenants and of somebody without one."""
    rows = [row(1, "acme"), row(2, "acme", model="=cmd|'/c calc'!A0"), row(3, "rival")]
    seal_rows(RECEIPTS, [*rows, row(4, None), row(5, " alone")], tmp_path, "gw-1")
    return tmp_path


class Clock(WallClock):
    def now(self):
        return SEVEN_S + 3600.0


def sources(folder, signer=None, kept=str):
    return ReceiptSources(AskedLedger(folder, None, Clock(), kept), lambda: signer, Clock().now)


def rows_of(body):
    return list(csv.DictReader(io.StringIO(body.decode())))


async def test_an_open_gateway_tells_the_tenant_that_is_named(folder):
    async with serving(sources=sources(folder)) as front:
        for number, tenant in ((1, "acme"), (3, "rival"), (4, "")):
            path = f"{PATH}/{decision_id('ab', number, 0.5, HOUR)}"
            headers = {"x-tenant": tenant} if tenant else {}
            status, _, body = await front.get(path, headers=headers)
            told = json.loads(body)
            assert (status, told["kept_in"], told["model"]) == (200, "ledger", "llama")
            assert "settled" not in told
            for other in {"acme", "rival", "nobody"} - {tenant}:
                assert (await front.get(path, headers={"x-tenant": other}))[0] == 404
        _, headers, body = await front.get(f"{PATH}?{DAY}", headers={"x-tenant": "acme"})
        assert [one["model"] for one in rows_of(body)] == ["llama", "'=cmd|'/c calc'!A0"]
        assert headers["cache-control"] == "no-store" and "link" not in headers


async def test_principals_are_told_their_own(folder):
    mine, rival, alone, operator, chat = map(key_text, ("mine", "rival", "alone", "op", "chat"))
    held = access(
        held_key(mine, MAY),
        held_key(rival, replace(MAY, name="rival", tenant="rival")),
        held_key(alone, replace(MAY, name="alone", tenant="")),
        held_key(operator, replace(MAY, name="op", roles=frozenset((Role.OPERATOR,)))),
        held_key(chat, replace(MAY, name="chat", roles=frozenset((Role.INFER,)))),
    )

    async def asked(key, path, **headers):
        given = {"authorization": f"Bearer {key}", **headers}
        status, _, body = await front.get(path, headers=given)
        return status, body

    async with serving(sources=sources(folder), access=held) as front:
        for key, number in ((mine, 1), (rival, 3), (alone, 5)):
            path = f"{PATH}/{decision_id('ab', number, 0.5, HOUR)}"
            for who in (mine, rival, alone):
                assert (await asked(who, path))[0] == (200 if who == key else 404)
            _, body = await asked(key, f"{PATH}?{DAY}")
            assert len(rows_of(body)) == (2 if key == mine else 1)
        assert (await asked(rival, f"{PATH}?{DAY}&tenant=acme"))[0] == 403
        assert (await asked(rival, f"{PATH}?{DAY}", **{"x-tenant": "acme"}))[0] == 403
        assert (await asked(mine, f"{PATH}?{DAY}&tenant=acme"))[0] == 200
        assert len(rows_of((await asked(operator, f"{PATH}?{DAY}&tenant=rival"))[1])) == 1
        # A row of nobody in particular is no authenticated caller's.
        unowned = f"{PATH}/{decision_id('ab', 4, 0.5, HOUR)}"
        for who in (mine, rival, alone, operator):
            assert (await asked(who, unowned))[0] == 404
        assert (await asked(chat, f"{PATH}?{DAY}"))[0] == 403


async def test_pages_go_on_where_the_one_before_ended(folder):
    async with serving(sources=sources(folder)) as front:
        found, path = [], f"{PATH}?from=2026-11-30&limit=1"
        while path:
            _, headers, body = await front.get(path, headers={"x-tenant": "acme"})
            found += rows_of(body)
            path = headers.get("link", "")[1:].partition(">")[0]
    assert len(found) == 2 and len({one["decision_id"] for one in found}) == 2


@pytest.mark.parametrize(
    "query",
    [
        "", "to=2026-11-30", "from=x", "from=2026-11-30&to=2026-11-30", "from=2026-11-30T07:00",
        "from=0001-01-01", "from=9999-12-31T23:59:59Z&to=9999-12-31", "from=2024-11-01",
        f"{DAY}&limit=0", f"{DAY}&limit=-1", f"{DAY}&limit=10001", f"{DAY}&limit=%C2%B2",
        f"{DAY}&after=x", f"{DAY}&after=1.1.%2e%2e%2f", f"{DAY}&from=2026-11-30", f"{DAY}&a=b",
        "&".join(f"a{n}=1" for n in range(99)), "from=%ff", "from=2026-11-30T07:00:00%2B09:00",
    ],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_refused(folder, query):
    async with serving(sources=sources(folder)) as front:
        from yarl import URL

        async with front.client.get(URL(front.url(f"{PATH}?{query}"), encoded=True)) as reply:
            assert reply.status == 400, await reply.read()
            assert (await reply.json())["error"]["code"] == "request_malformed"


@pytest.mark.parametrize("given", ["none", "omit"])
async def test_without_a_ledger_that_says_whose_rows_are_nothing_is_told(folder, given):
    told = ReceiptSources() if given == "none" else sources(folder, kept=lambda owner: None)
    async with serving(sources=told) as front:
        status, _, body = await front.get(f"{PATH}?{DAY}")
        assert status == 404 and b"ledger" in body
        path = f"{PATH}/{decision_id('ab', 4, 0.5, HOUR)}"
        assert (await front.get(path))[0] == 404


async def test_memory_comes_first_and_a_store_that_is_away_hides_no_row(folder):
    class Away:
        def offer(self, decision_id, row):
            pass

        async def find(self, decision_id):
            raise ReceiptsUnreachableError("away", 1.0)

    kept = KeptReceipts(None, Away())
    mine = decision_id("ab", 1, 0.5, HOUR)
    headers = {"x-tenant": "acme"}
    async with serving(receipts=kept, sources=sources(folder)) as front:
        assert json.loads((await front.get(f"{PATH}/{mine}", headers=headers))[2])["kept_in"]
        kept.keep(receipt(decision_id=mine, request=Request("llama", tenant="acme")))
        assert "kept_in" not in json.loads((await front.get(f"{PATH}/{mine}", headers=headers))[2])
        # In memory it is somebody's, and so it is in the ledger.
        assert (await front.get(f"{PATH}/{mine}", headers={"x-tenant": "rival"}))[0] == 404
        # What is nowhere may be where nobody can be asked.
        assert (await front.get(f"{PATH}/{mine}0"))[0] == 503


async def test_one_owner_has_one_page_at_a_time():
    class Slow:
        tells_owners = True

        def __init__(self):
            self.asked, self.go = asyncio.Event(), asyncio.Event()

        async def page(self, owner, since, until, after, most):
            self.asked.set()
            await self.go.wait()
            raise ReceiptsUnreachableError("not now", 1.0)

    slow = Slow()
    async with serving(sources=ReceiptSources(slow, now=Clock().now)) as front:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(front.get(f"{PATH}?{DAY}"))
            await slow.asked.wait()
            status, headers, body = await front.get(f"{PATH}?{DAY}")
            assert status == 503 and b"already" in body and headers["retry-after"] == "1"
            slow.go.set()
        assert first.result()[0] == 503 and b"not now" in first.result()[2]
        slow.asked.clear()
        assert b"not now" in (await front.get(f"{PATH}?{DAY}"))[2]


async def test_receipts_are_signed_by_the_key_in_force(folder):
    keys = [Ed25519PrivateKey.generate() for _ in range(2)]
    signers = [
        ReceiptKeys(key_id(key.public_key()), key_set([key.public_key()]), issuer, key)
        for key, issuer in zip(keys, ("", "https://gateway.test"), strict=True)
    ]
    in_force = [signers[0]]
    told = ReceiptSources(AskedLedger(folder, None, Clock(), str), lambda: in_force[0], Clock().now)
    kept = KeptReceipts()
    kept.keep(receipt())
    async with serving(receipts=kept, sources=told) as front:
        for signer in signers:
            in_force[0] = signer
            _, headers, body = await front.get("/v1/carbon/keys")
            assert headers["content-type"].startswith("application/jwk-set+json")
            (jwk,) = json.loads(body)["keys"]
            document = json.loads((await front.get(f"{PATH}/gw-1"))[2])
            # As docs/receipts.md has it.
            keys = jwt.PyJWKClient(front.url("/v1/carbon/keys"))
            key = await asyncio.to_thread(keys.get_signing_key_from_jwt, document["jws"])
            assert jwt.decode(document["jws"], key, algorithms=["EdDSA"])["decision_id"] == "gw-1"
            signed = jwt.decode(
                document.pop("jws"), OKPAlgorithm.from_jwk(jwk), algorithms=["EdDSA"]
            )
            assert signed.pop("iss", "") == signer.issuer and signed == document
        jose = {"accept": "application/jose"}
        _, headers, text = await front.get(f"{PATH}/gw-1", headers=jose)
        assert headers["content-type"].startswith("application/jose") and text.count(b".") == 2

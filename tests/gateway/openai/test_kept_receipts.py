"""The last receipts, of this process and of others."""

import pytest

from router.errors import ReceiptsUnreachableError
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.openai.receipt_documents import receipt_document
from router.gateway.receipt_rows import encode_receipt
from tests.gateway.support import receipt


class Rows(dict):
    """What others keep, as bytes."""

    def keep(self, decision_id, row):
        self[decision_id] = row
        return True

    offer = keep

    def find(self, decision_id):
        return self.get(decision_id)


class Gateways(Rows):
    """Those of other gateways."""

    asked = 0
    lost = False

    async def find(self, decision_id):
        self.asked += 1
        if self.lost:
            raise ReceiptsUnreachableError("lost")
        return self.get(decision_id)


async def test_the_oldest_make_way():
    kept = KeptReceipts(most=2)
    for name in "abc":
        kept.keep(receipt(decision_id=name))
    assert await kept.find("a") is None
    assert [(await kept.find(name)).decision_id for name in "bc"] == ["b", "c"]


async def test_its_own_first_then_those_of_workers_then_those_of_gateways():
    rows, gateways = Rows(), Gateways()
    kept = KeptReceipts(rows, gateways)
    kept.keep(receipt(decision_id="own"))
    assert set(rows) == set(gateways) == {"own"}
    for where, name in ((rows, "worker"), (gateways, "gateway")):
        where[name] = encode_receipt(receipt(decision_id=name, policy=name))
    for name in ("own", "worker", "gateway"):
        found = await kept.find(name)
        assert found.decision_id == name
    assert gateways.asked == 1
    assert receipt_document(found) == receipt_document(
        receipt(decision_id="gateway", policy="gateway")
    )
    assert await kept.find("nobody") is None
    gateways.lost = True
    assert (await kept.find("worker")).policy == "worker"
    with pytest.raises(ReceiptsUnreachableError):
        await kept.find("nobody")


@pytest.mark.parametrize("row", [b"", b"\x90", encode_receipt(receipt(decision_id="other"))])
async def test_rows_that_are_none_or_anothers_are_none(row):
    rows, gateways = Rows(x=row), Gateways(x=row)
    assert await KeptReceipts(rows, gateways).find("x") is None


async def test_a_process_alone_writes_for_nobody(monkeypatch):
    monkeypatch.setattr("router.gateway.openai.kept_receipts.encode_receipt", None)
    kept = KeptReceipts()
    assert not kept.shares_store
    kept.keep(receipt(decision_id="a"))
    assert await kept.find("a") == receipt(decision_id="a")

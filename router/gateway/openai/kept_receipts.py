"""The receipts of the last answers, to be asked for by id once a stream has ended."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from router.errors import DataError
from router.gateway.receipt_rows import decode_receipt, encode_receipt
from router.gateway.shared_receipts import SharedReceipts
from router.model import Receipt

# Some 2 KiB each.
MOST_RECEIPTS: Final = 4096


class ReceiptRows(Protocol):
    """Receipts of several processes as bytes; on the hot path, so nothing waits."""

    def keep(self, decision_id: str, row: bytes) -> bool:
        """From now on the others find it; False where it cannot be kept."""
        ...

    def find(self, decision_id: str) -> bytes | None:
        """None for one that nobody keeps (any more)."""
        ...


class KeptReceipts:
    """Of one process, the oldest making way; and those of other workers and gateways.

    ``siblings``: None of a process alone; ``gateways``: None where they share no store.
    """

    def __init__(
        self,
        siblings: ReceiptRows | None = None,
        gateways: SharedReceipts | None = None,
        most: int = MOST_RECEIPTS,
    ) -> None:
        self._most = most
        self._receipts: OrderedDict[str, Receipt] = OrderedDict()
        self._siblings = siblings
        self._gateways = gateways

    @property
    def shares_store(self) -> bool:
        """Whether the receipts of all gateways can be asked for here."""
        return self._gateways is not None

    def keep(self, receipt: Receipt) -> None:
        """From now on it can be asked for."""
        self._receipts[receipt.decision_id] = receipt
        if len(self._receipts) > self._most:
            self._receipts.popitem(last=False)
        if self._siblings is None and self._gateways is None:
            return
        row = encode_receipt(receipt)
        if self._siblings is not None:
            self._siblings.keep(receipt.decision_id, row)
        if self._gateways is not None:
            self._gateways.offer(receipt.decision_id, row)

    async def find(self, decision_id: str) -> Receipt | None:
        """None for one that is not kept (any more), by whoever can be asked.

        Raises ReceiptsUnreachableError where the store cannot be.
        """
        receipt = self._receipts.get(decision_id)
        if receipt is None and self._siblings is not None:
            receipt = _decoded(decision_id, self._siblings.find(decision_id))
        if receipt is None and self._gateways is not None:
            receipt = _decoded(decision_id, await self._gateways.find(decision_id))
        return receipt


def _decoded(decision_id: str, row: bytes | None) -> Receipt | None:
    """A row that others wrote; None for what is none, and for another receipt's."""
    try:
        receipt = None if row is None else decode_receipt(row)
    except DataError:
        return None
    return receipt if receipt is not None and receipt.decision_id == decision_id else None

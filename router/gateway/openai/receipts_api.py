"""What callers ask of receipts: one by its id, those of a period as CSV, the keys of signatures.

Whose receipts somebody is told is decided here: those of the tenant that it names and may name, or
without one its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qs, urlencode

import msgspec
from aiohttp import web

from router.config import parse_day_or_time
from router.config.identity import ANY_TENANT
from router.errors import (
    DataError,
    MalformedRequestError,
    ReceiptsUnreachableError,
    UnknownMethodError,
    UnknownReceiptError,
)
from router.gateway.openai.calls import Incoming
from router.gateway.openai.ending import SERVER, CallEnding
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.openai.receipt_documents import KeptRow, ledger_document, receipt_document
from router.identity.narrowing import held_tenant, receipt_owner
from router.identity.principal import Role
from router.units import DAY_S

RECEIPTS: Final = "/v1/carbon/receipts"
KEYS: Final = "/v1/carbon/keys"
# Of one page: some 4 MiB.
MOST_ROWS: Final = 10_000
_MOST_S: Final = 366 * DAY_S
_PARAMETERS: Final = frozenset(("from", "to", "limit", "after", "tenant"))
# Pages that are written at one time, one an owner, and for how long one may be.
_MOST_PAGES: Final = 8
_PAGE_S: Final = 60.0
_AGAIN_S: Final = 1.0
_JOSE: Final = "application/jose"


class AskedPage(Protocol):
    """Rows as CSV. ``after``: what to go on from, "" where that is all; ``unread``: files without
    whose rows it is."""

    after: str
    unread: tuple[str, ...]

    def chunks(self) -> AsyncIterator[bytes]: ...


class ReceiptLedger(Protocol):
    """Where receipts are for good; see `router.ledger.asking.ledger.AskedLedger`."""

    @property
    def tells_owners(self) -> bool: ...

    async def find(self, decision_id: str, owner: str) -> KeptRow | None: ...

    async def page(
        self, owner: str, since: float, until: float, after: str, most: int
    ) -> AskedPage: ...


class ReceiptSigner(Protocol):
    """``key_set``: what its signatures are verified by, as JSON (RFC 7517)."""

    @property
    def key_set(self) -> bytes: ...

    def signed(self, document: Mapping[str, object]) -> str: ...


class ReceiptSources(NamedTuple):
    """``ledger``: None where none is kept; ``signer``: gives None where receipts are not signed;
    ``now``: unix s, of the clock that receipts are of."""

    ledger: ReceiptLedger | None = None
    signer: Callable[[], ReceiptSigner | None] = lambda: None
    now: Callable[[], float] = lambda: 0.0


class ReceiptsApi:
    """Of one process."""

    def __init__(self, kept: KeptReceipts, sources: ReceiptSources) -> None:
        self._kept = kept
        self._ledger = sources.ledger
        self._signer = sources.signer
        self._now = sources.now
        self._paged: set[str] = set()

    def serves(self, path: str) -> bool:
        """Whether ``path`` is about receipts."""
        return path in (RECEIPTS, KEYS) or path.startswith(RECEIPTS + "/")

    async def answer(
        self, request: web.BaseRequest, head: Incoming, path: str, ending: CallEnding
    ) -> web.StreamResponse:
        """To a GET of a path that it serves, or its HEAD."""
        if path == KEYS:
            return self._keys()
        if path == RECEIPTS:
            return await self._page(request, head, ending)
        return await self._one(head, path.removeprefix(RECEIPTS + "/"))

    def _keys(self) -> web.Response:
        signer = self._signer()
        if signer is None:
            raise UnknownMethodError(f"{KEYS}: receipts are not signed here: there are no keys")
        return web.Response(body=signer.key_set, content_type="application/jwk-set+json")

    async def _one(self, head: Incoming, decision_id: str) -> web.Response:
        document = await self._document(head, decision_id)
        signer = self._signer()
        if signer is not None:
            jws = signer.signed(document)
            if _JOSE in head.by_name.get("accept", "").lower():
                return web.Response(text=jws, content_type=_JOSE)
            document["jws"] = jws
        return web.Response(body=msgspec.json.encode(document), content_type="application/json")

    async def _document(self, head: Incoming, decision_id: str) -> dict[str, Any]:
        """Memory first, then the other gateways, then the ledger."""
        owner = receipt_owner(head.principal, held_tenant(head.principal, head.tenant))
        unreachable: ReceiptsUnreachableError | None = None
        try:
            receipt = await self._kept.find(decision_id)
        except ReceiptsUnreachableError as error:
            receipt, unreachable = None, error
        if receipt is not None and receipt.request.receipt_owner == owner:
            return receipt_document(receipt)
        row = None
        if receipt is None and self._ledger is not None:
            row = await self._ledger.find(decision_id, owner)
        if row is not None:
            return ledger_document(row)
        if unreachable is not None:
            raise unreachable
        raise UnknownReceiptError(self._unknown(head, decision_id))

    def _unknown(self, head: Incoming, decision_id: str) -> str:
        why = "it is too old"
        if self._ledger is not None:
            why = "it is in neither memory nor ledger (yet)"
        elif not self._kept.shares_store:
            why = "it is too old, or another gateway answered"
        by_header = head.principal.tenant == ANY_TENANT
        whose = "this x-tenant" if by_header else "the tenant of this credential"
        return f"no receipt with the id {decision_id[:64]!r} is kept for {whose}: {why}"

    async def _page(
        self, request: web.BaseRequest, head: Incoming, ending: CallEnding
    ) -> web.StreamResponse:
        ledger = self._ledger
        if head.method != "GET" or ledger is None or not ledger.tells_owners:
            raise UnknownMethodError(
                f"{RECEIPTS}: not served here: it takes a GET, and a ledger that keeps whose "
                "receipts are whose (`ledger:`, with `tenant: hash` or `plain`)"
            )
        asked = _parameters(head.path)
        owner = _asked_owner(head, asked.get("tenant", ""))
        until = _time(asked, "to") if "to" in asked else self._now()
        since = _time(asked, "from")
        if not since < until <= since + _MOST_S:
            raise MalformedRequestError("from, to: a period of up to 366 days, from before to")
        most = _limit(asked.get("limit", str(MOST_ROWS)))
        if owner in self._paged or len(self._paged) >= _MOST_PAGES:
            raise ReceiptsUnreachableError(
                "a page of these receipts is being written already, or too many are: ask again",
                _AGAIN_S,
            )
        self._paged.add(owner)
        try:
            async with asyncio.timeout(_PAGE_S):
                try:
                    page = await ledger.page(owner, since, until, asked.get("after", ""), most)
                except DataError as error:
                    raise MalformedRequestError(f"after: {error}") from None
                # Later pages are of the same period, whatever time it is then.
                asked["to"] = asked.get("to", _stamp(until))
                return await _written(request, page, asked, ending)
        except TimeoutError:
            raise ReceiptsUnreachableError(
                f"a page may take {_PAGE_S:.0f} s: ask for fewer rows by `limit`", _AGAIN_S
            ) from None
        finally:
            self._paged.discard(owner)


async def _written(
    request: web.BaseRequest, page: AskedPage, asked: Mapping[str, str], ending: CallEnding
) -> web.StreamResponse:
    headers = {
        "content-type": "text/csv; charset=utf-8; header=present",
        "content-disposition": 'attachment; filename="receipts.csv"',
        "cache-control": "no-store",
        "server": SERVER,
    }
    if page.after:
        query = urlencode({**asked, "after": page.after})
        headers["link"] = f'<{RECEIPTS}?{query}>; rel="next"'
    if page.unread:
        headers["x-unread-files"] = str(len(page.unread))
    response = ending.response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    async for chunk in page.chunks():
        ending.written_bytes += len(chunk)
        await response.write(chunk)
    await response.write_eof()
    return response


def _parameters(path: str) -> dict[str, str]:
    """Raises MalformedRequestError for one that is not known, or is given twice."""
    try:
        found = parse_qs(path.partition("?")[2], keep_blank_values=True, max_num_fields=16)
    except ValueError:
        raise MalformedRequestError("the query has too many parameters") from None
    for name, values in found.items():
        if name not in _PARAMETERS or len(values) > 1:
            known = ", ".join(sorted(_PARAMETERS))
            raise MalformedRequestError(f"{name[:32]!r}: not known or given twice; use {known}")
    return {name: values[0] for name, values in found.items()}


def _asked_owner(head: Incoming, tenant: str) -> str:
    """Raises NotPermittedError for a tenant that is not the principal's to name."""
    principal = head.principal
    if tenant and principal.has(Role.OPERATOR):
        return tenant
    return receipt_owner(principal, held_tenant(principal, tenant or head.tenant))


def _time(asked: Mapping[str, str], name: str) -> float:
    text = asked.get(name, "")
    try:
        return parse_day_or_time(text)
    except (ValueError, OverflowError):
        raise MalformedRequestError(
            f"{name}: {text[:64]!r} is no time: write a day as 2026-11-30, or RFC 3339 in UTC as "
            "2026-11-30T07:00:00Z"
        ) from None


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST_ROWS):
        raise MalformedRequestError(f"limit: a number of rows, from 1 to {MOST_ROWS}")
    return int(text)


def _stamp(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"

"""Keys of callers that gateways keep in their store: looked at every second, in force when read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from router.errors import ConfigError, DataError, StateStoreError
from router.identity.api_keys import KeyTable
from router.identity.keys_file import key_table
from router.identity.stored_keys import StoredKeys, read_document
from router.telemetry.admin import Reason
from router.telemetry.security import SecurityEvent, SecurityLog

LOOK_S: Final = 1.0
_FIRST_S: Final = 5.0
# Parts that are missing now may come back; all that is there is read again to find out.
_LACKING_S: Final = 10.0
_STALE_S: Final = 5.0
_MAX_DETAIL: Final = 2000
_NONE: Final = "the store has no keys: `key new --first` makes the first, `key import` brings all"
_GONE: Final = (
    "the store has no keys any more: `key import` brings them back; whoever wants none revokes them"
)


class KeyFollower:
    """One a process. ``table``: the keys last read, None before the first of them; whatever happens
    to the store, they stay until others are read."""

    def __init__(
        self,
        stored: StoredKeys,
        monotonic: Callable[[], float],
        log: SecurityLog,
        changed: Callable[[], None],
    ) -> None:
        """``changed``: told when ``table`` is another."""
        self._stored = stored
        self._monotonic = monotonic
        self._log = log
        self._changed = changed
        self.table: KeyTable | None = None
        # Why what the store has is not in force, "" where it is.
        self.refused = ""
        # Of the document that was read or refused last, and of one that has parts missing.
        self._known: bytes | None = None
        self._lacking: bytes | None = None
        self._lacking_until = 0.0
        self._answered_at = monotonic()
        self._unanswered = ""

    async def start(self) -> None:
        """The first look, waited for as long as what else is read from a store at the start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_S):
                await self.look()

    async def look(self) -> None:
        """See whether there are other keys, and put them in force."""
        try:
            head = await self._stored.head()
            if head is None:
                self._known = None
                self._refuse(_NONE if self.table is None else _GONE)
            elif head != self._known and not self._is_lacking(head):
                await self._read(head)
        except StateStoreError as error:
            # Told by whoever watches the store.
            self._unanswered = str(error)
            return
        self._unanswered, self._answered_at = "", self._monotonic()

    def notes(self, alone: bool) -> list[Reason]:
        """What is wrong with it, for readiness. ``alone``: nobody is known by anything else, so
        that a process that has read no keys refuses everybody."""
        if self.table is None:
            why = self.refused or self._unanswered or "they were not read so far"
            detail = f"whoever brings a key of the store is asked to wait: {why}"
            return [Reason("keys_unread", detail[:_MAX_DETAIL], alone)]
        if self.refused:
            detail = f"the keys in the store were refused, those before stay: {self.refused}"
            return [Reason("keys_refused", detail[:_MAX_DETAIL], False)]
        silent_s = self._monotonic() - self._answered_at
        if self._unanswered and silent_s > _STALE_S:
            detail = (
                f"those of {silent_s:.0f} s ago stay in force, one that was revoked since then "
                f"too: {self._unanswered}"
            )
            return [Reason("keys_stale", detail, False)]
        return []

    async def _read(self, head: bytes) -> None:
        try:
            document = await self._stored.document(head)
            # A large one takes a while.
            table = await asyncio.to_thread(_table, document)
        except DataError as error:
            self._known, self._lacking = None, head
            self._lacking_until = self._monotonic() + _LACKING_S
            self._refuse(str(error))
            return
        except ConfigError as error:
            self._refuse(str(error))
        else:
            self.table, self.refused = table, ""
            self._log.tell(SecurityEvent.KEYS_LOADED, f"{len(table)} keys of the store")
            self._changed()
        self._known, self._lacking = head, None

    def _is_lacking(self, head: bytes) -> bool:
        return head == self._lacking and self._monotonic() < self._lacking_until

    def _refuse(self, why: str) -> None:
        # Once; it is found again every second.
        if why != self.refused:
            self.refused = why
            self._log.tell(SecurityEvent.KEYS_REFUSED, why)


def _table(document: bytes) -> KeyTable:
    return key_table(read_document(document))

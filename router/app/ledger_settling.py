"""Rounds of settlement in the background: `carbon-router settle`, as a child of the gateway.

A child, for what it takes (DuckDB over a month of receipts, every price so far) is another
process's memory and processor time, at the lowest priority and on one thread; and being the command
itself, what it writes is what the command writes (docs/decisions/settling-is-a-child.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from router.app.leases import FolderLease, ProcessLease, SoleLease, StoreLease
from router.config.ledger import LedgerSettings
from router.contract import Clock, Rng, StateStore
from router.errors import NoLedgerError
from router.telemetry.admin import Reason
from router.telemetry.ledger import LedgerMetrics

COMMAND: Final = (sys.executable, "-m", "router.cli")
# Between two looks whether a round is due, and whether this process is still the one to do it.
_LOOK_S: Final = 5.0
# After the start: the gateway serves first.
_FIRST_S: Final = (60.0, 120.0)
_RETRY_S: Final = 60.0
# Ten million receipts take 13 s (docs/benchmarks.md); what takes longer than this hangs.
_LONGEST_S: Final = 900.0
_LEAST_PRIORITY: Final = 19
_MEMORY: Final = "1GB"
_MOST_TEXT: Final = 500

_log = logging.getLogger(__name__)


class SettleRounds:
    """One a gateway. ``run`` is one look, repeated in the background."""

    def __init__(
        self,
        settings: LedgerSettings,
        config_path: Path,
        lease: ProcessLease,
        clock: Clock,
        rng: Rng,
        metrics: LedgerMetrics,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """``settings``: with ``settle_every_s``; ``config_path``: whose carbon providers are asked;
        ``command``: the command line of this program."""
        self._settings = settings
        self._every_s = settings.settle_every_s or math.inf
        self._config_path = config_path
        self._lease = lease
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._command = command
        first, last = _FIRST_S
        self._due_at = clock.monotonic() + first + rng.random() * (last - first)
        self._failures = 0
        self._trouble = ""

    async def run(self) -> None:
        """Wait, then do a round if one is due and this process is the one to do it."""
        await asyncio.sleep(_LOOK_S)
        await self.look()

    async def look(self) -> None:
        """A round, if one is due here; what fails is told, and tried again."""
        try:
            await self._lease.renew()
        except OSError as error:
            self._failed(f"{self._settings.dir}: {error}")
            return
        if not self._lease.is_held:
            # Whoever holds it tells.
            self._recover()
            self._metrics.open_hours(0)
            return
        if self._clock.monotonic() >= self._due_at:
            await self._round()

    def notes(self) -> Sequence[Reason]:
        """What readiness says of it."""
        if not self._trouble:
            return ()
        return (Reason("settlement_failing", f"ledger.settle: {self._trouble}", False),)

    async def close(self) -> None:
        """Others may do it."""
        await self._lease.release()

    async def _round(self) -> None:
        at = datetime.fromtimestamp(math.floor(self._clock.now()), UTC)
        try:
            code, out, err = await self._ask(at.strftime("%Y-%m-%dT%H:%M:%SZ"))
        except TimeoutError:
            self._failed(f"took over {_LONGEST_S:g} s, and was ended")
            return
        except OSError as error:
            self._failed(f"cannot be started: {error}")
            return
        if code is None:
            _log.info("another gateway settles the ledger: ours was ended")
            return
        if code != 0 and err.startswith(f"{NoLedgerError.reason}:"):
            # Nothing was served yet, or is in a file.
            out = "{}"
        elif code != 0:
            self._failed(_last(err) or f"ended with code {code}")
            return
        try:
            self._done(json.loads(out), at)
        except ValueError:
            self._failed(f"told no result: {_last(err) or _last(out)}")

    async def _ask(self, at: str) -> tuple[int | None, str, str]:
        """Exit code, standard output and errors; None for the code where the lease was lost, and
        nothing was told. Raises TimeoutError and OSError."""
        process = await asyncio.create_subprocess_exec(
            *self._command, "settle", self._settings.place, "--config", str(self._config_path),
            "--at", at, "--threads", "1", "--memory", _MEMORY, "--parent", str(os.getpid()),
            "--json",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _LEAST_PRIORITY)
        talk = asyncio.ensure_future(process.communicate())
        try:
            async with asyncio.timeout(_LONGEST_S):
                while not talk.done():
                    await asyncio.wait([talk], timeout=_LOOK_S)
                    await self._lease.renew()
                    if not self._lease.is_held and not talk.done():
                        return None, "", ""
            out, err = talk.result()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            # Of one that was killed nothing is left behind: neither the process nor its pipes.
            await asyncio.wait([talk])
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

    def _done(self, told: dict[str, Any], at: datetime) -> None:
        failures = told.get("failures") or []
        open_hours = sum((told.get("open_hours") or {}).values())
        self._metrics.open_hours(open_hours)
        if told.get("file"):
            facts = {name: told.get(name) for name in ("file", "priced", "revised")}
            _log.info("ledger settled", extra={**facts, "open": open_hours, "at": at.isoformat()})
        if failures:
            more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
            self._failed(f"providers could not be asked: {failures[0]!s}{more}", "partial")
            return
        self._metrics.settled("added" if told.get("file") else "nothing_new")
        self._recover()
        self._due_at = self._clock.monotonic() + self._every_s

    def _recover(self) -> None:
        if self._trouble:
            _log.info("the ledger is settled again")
        self._failures, self._trouble = 0, ""

    def _failed(self, why: str, outcome: str = "failed") -> None:
        """Told once, until it succeeds again; tried again after ever longer."""
        self._metrics.settled(outcome)
        if not self._trouble:
            _log.warning("the ledger is not settled: %s", why)
        self._trouble = why[:_MOST_TEXT]
        wait_s = min(_RETRY_S * 2.0 ** min(self._failures, 20), self._every_s)
        self._failures += 1
        self._due_at = self._clock.monotonic() + wait_s * (0.75 + 0.5 * self._rng.random())


def settle_rounds(
    settings: LedgerSettings | None,
    config_path: Path,
    store: StateStore | None,
    holder: str,
    clock: Clock,
    rng: Rng,
    metrics: LedgerMetrics,
) -> SettleRounds | None:
    """None where none are asked for. ``holder``: of this process in the ``store``."""
    if settings is None or settings.settle_every_s is None:
        return None
    lease = _lease(settings, store, holder, clock)
    return SettleRounds(settings, config_path, lease, clock, rng, metrics)


def _lease(
    settings: LedgerSettings, store: StateStore | None, holder: str, clock: Clock
) -> ProcessLease:
    """Who shares a ledger finds the same: folders of one name may be on different machines."""
    if settings.url is None:
        return FolderLease(settings.dir / "prices" / ".rounds.lock")
    if store is None:
        return SoleLease()
    name = hashlib.sha256(settings.url.encode()).hexdigest()[:16]
    return StoreLease(store, f"ledger/settle/{name}", holder, clock)


def _last(text: str) -> str:
    return " ".join(text.split())[-_MOST_TEXT:]

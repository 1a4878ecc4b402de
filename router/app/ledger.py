"""The ledger of one gateway process: built by its settings, closed when the process ends."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from router.app.compose import build_rng
from router.config.ledger import LedgerSettings
from router.config.settings import Config
from router.contract import Clock, Ledger
from router.director.recording import Recorder
from router.errors import ConfigError, DataError
from router.extras import need
from router.telemetry.ledger import LedgerMetrics
from router.telemetry.tenants import kept_tenant

if TYPE_CHECKING:
    from router.ledger.asking.ledger import AskedLedger
    from router.ledger.asking.moments import LedgerMoments
    from router.ledger.receipt_cells import Cells
    from router.ledger.table_writer import TableWriter
    from router.ledger.tables import LedgerTable
    from router.ledger.writer_slot import WriterSlot

# At the end: for the last rows and their files, and for a store that takes them.
_LAST_S: Final = 20.0

_log = logging.getLogger(__name__)


def require_ledger(config: Config) -> None:
    """Raises ConfigError where a ledger is asked for and what it takes is not installed."""
    if config.settings.ledger is not None:
        with need("ledger", "a ledger", file=str(config.file), key="ledger"):
            import duckdb  # noqa: F401
            import pyarrow  # noqa: F401


def require_free_slots(config: Config, workers: int) -> None:
    """Raises ConfigError where another gateway writes as one of the ``workers`` would, which they
    would find out one by one, and be started again."""
    settings = config.settings.ledger
    if settings is None:
        return
    from router.ledger.writer_slot import require_free

    with _told_of(config, settings):
        require_free(settings.dir, [_slot(settings, row) for row in range(1, workers + 1)])


@contextlib.contextmanager
def _told_of(config: Config, settings: LedgerSettings) -> Iterator[None]:
    """Errors of the folder as those of the file that names it."""
    try:
        yield
    except (OSError, DataError) as error:
        problem = f"{settings.dir}: {error}"
        raise ConfigError(str(config.file), [("ledger.dir", problem)]) from None
    except ConfigError as error:
        raise ConfigError(str(config.file), error.problems) from None


def _slot(settings: LedgerSettings, row: int) -> str:
    return f"{settings.name}-{row}"


class ProcessLedger:
    """``ledger``: what requests are told to, ``recorder``: what keeps decisions; None where none is
    kept."""

    def __init__(
        self,
        config: Config,
        row: int,
        unique: str,
        clock: Clock,
        metrics: LedgerMetrics,
        workers: int = 1,
    ) -> None:
        """``row``: of a worker among the ``workers`` of its gateway, 0 of a process alone;
        ``unique``: makes the name of a writer that is new its own.

        Raises ConfigError where the folder cannot be used, or another process writes there.
        """
        self.ledger: Ledger | None = None
        self.recorder: Recorder | None = None
        # Takes rows of energy; nobody where none are kept.
        self.put_energy: Callable[[Cells], None] | None = None
        self._settings = config.settings.ledger
        self._clock = clock
        self._metrics = metrics
        self._workers = workers
        self._closing: list[Any] = []
        if self._settings is None:
            return
        require_ledger(config)
        with _told_of(config, self._settings):
            self._build(self._settings, row, unique)

    def asked(self) -> AskedLedger | None:
        """For callers who ask for their own receipts; None where none are kept. Inside a running
        event loop."""
        settings = self._settings
        if settings is None:
            return None
        from router.ledger.asking.ledger import AskedLedger

        return AskedLedger(settings.dir, settings.url, self._clock, self._kept_owner)

    def moments(self) -> LedgerMoments | None:
        """For whoever looks back on the console; None where none are kept."""
        settings = self._settings
        if settings is None:
            return None
        from router.ledger.asking.moments import LedgerMoments

        return LedgerMoments(settings.dir, settings.url, self._clock, self._kept_owner)

    def start(self) -> None:
        """From here on rows are written."""
        for part in self._closing:
            part.start()

    def adopt(self, settings: LedgerSettings | None) -> None:
        """After a reload: how tenants are kept; anything else takes a restart."""
        if self._settings is not None and settings is not None:
            self._settings = settings

    def close(self) -> None:
        """Write, seal and send what waits, and give up on what takes too long."""
        if self._settings is None:
            return
        began = self._clock.monotonic()
        for part in self._closing:
            part.close(max(0.1, _LAST_S - (self._clock.monotonic() - began)))

    def _build(self, settings: LedgerSettings, row: int, unique: str) -> None:
        # Not before it is asked for: pyarrow and duckdb take a while, and room.
        from router.ledger.decisions.files import DECISIONS, DOCUMENTS
        from router.ledger.keeping import KeptLedger, LedgerThread, cells_of
        from router.ledger.row_queue import RowQueue
        from router.ledger.shipping import Shipper, Spool
        from router.ledger.tables import ENERGY, RECEIPTS
        from router.ledger.writer_slot import WriterSlot

        slot = WriterSlot(settings.dir, _slot(settings, row), unique)
        folders = [RECEIPTS.name, ENERGY.name, DOCUMENTS, DECISIONS]
        spool = Spool(settings.dir, folders, slot.writer)
        receipts = self._writer(RECEIPTS, settings, slot, spool)
        queue = RowQueue(receipts, cells_of(self._tenant), settings.queue_rows, self._clock)
        self.ledger = KeptLedger(queue)
        energy: RowQueue[Cells] = RowQueue(
            self._writer(ENERGY, settings, slot, spool), _as_it_is, settings.queue_rows, self._clock
        )
        self.put_energy = energy.put
        self._closing.append(LedgerThread([queue, energy], settings.flush_s))
        self._record(settings, slot.writer)
        if settings.url is not None:
            self._closing.append(Shipper(spool, settings.url, self._metrics.waiting))
        if row <= 1:
            self._closing.append(self._left_over(settings, row, folders))
        _log.info("ledger", extra={"writer": slot.writer, "where": settings.place})

    def _left_over(self, settings: LedgerSettings, row: int, folders: Sequence[str]) -> Any:
        from router.ledger.left_over import LeftOver
        from router.ledger.shipping import Shipper, Spool
        from router.ledger.tables import TABLES

        def seal(slot: WriterSlot) -> None:
            spool = Spool(settings.dir, folders, slot.writer)
            for table in TABLES:
                writer = self._writer(table, settings, slot, spool)
                now, ticks = self._clock.now(), self._clock.monotonic()
                writer.seal_due(now, ticks, every=True)
            if settings.url is not None:
                Shipper(spool, settings.url, lambda _: None).send()

        taken = range(1, self._workers + 1) if row else range(1)
        return LeftOver(settings.dir, settings.name, taken, seal)

    def _record(self, settings: LedgerSettings, writer: str) -> None:
        from router.ledger.decisions.code_version import code_version
        from router.ledger.decisions.files import DECISIONS, decision_files
        from router.ledger.decisions.rows import RowContext
        from router.ledger.decisions.writer import DecisionWriter

        def rows(outcome: str, count: int) -> None:
            self._metrics.rows(DECISIONS, outcome, count)

        self._metrics.begun(DECISIONS)
        context = RowContext(writer, code_version(), self._tenant)
        kept = DecisionWriter(decision_files(settings.dir), context, self._clock, rows)
        # A generator of its own: what is kept has no bearing on what is decided.
        self.recorder = Recorder(kept.keep, settings.decision_share, build_rng())
        self._closing.append(kept)

    def _writer(
        self, table: LedgerTable, settings: LedgerSettings, slot: WriterSlot, spool: Any
    ) -> TableWriter:
        from router.ledger.table_writer import SealLimits, TableWriter

        limits = SealLimits(settings.seal_rows, settings.seal_s)
        if settings.url is not None:
            limits = limits._replace(spool_bytes=settings.spool_max_bytes)

        def rows(outcome: str, count: int) -> None:
            self._metrics.rows(table.name, outcome, count)

        self._metrics.begun(table.name)
        writer = TableWriter(table, settings.dir, slot, limits, rows, spool.bytes)
        writer.recover(self._clock.now())
        return writer

    def _tenant(self, tenant: str) -> str:
        assert self._settings is not None
        return kept_tenant(tenant, self._settings.tenant)

    def _kept_owner(self, owner: str) -> str | None:
        """None where the rows do not say whose they are."""
        assert self._settings is not None
        style = self._settings.tenant
        return None if style == "omit" else kept_tenant(owner, style)


def _as_it_is(cells: Cells) -> Cells:
    return cells

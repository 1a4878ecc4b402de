"""Successful requests as rows of a CSV file: a sample of the traffic that ``simulate`` replays.

Opt-in (``log.requests``). A row holds what routing knew of a request and what its receipt says;
never a payload, never the caller's request id, and of the tenant what the operator chose.

The event loop only puts rows into a bounded queue; one thread writes them. Several processes may
write one file: each batch is appended under a lock on it, whole or not at all, so that a full disk
leaves no half row behind. What does not fit into the queue or onto the disk is counted as lost.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from router.config.settings import RequestFileSettings
from router.contract import Rng
from router.model import Receipt
from router.telemetry.appended import AppendedFile
from router.telemetry.tenants import kept_tenant

# Those up to `max_output_tokens` are a workload's (``router.lab.sim.traffic.request_rows``).
COLUMNS: Final = (
    "time", "origin", "model", "input_tokens", "output_tokens", "ttft_budget_ms",
    "tpot_budget_ms", "e2e_budget_ms", "tenant", "residency", "max_output_tokens", "sample",
    "decision_id", "endpoint", "region", "grid_zone", "attempts", "ttft_ms", "e2e_ms",
    "tokens_kind", "energy_j", "energy_kind", "gco2e", "client_retries",
)  # fmt: skip
# Of one request, in a workload.
MOST_TOKENS: Final = 10_000_000
_MAX_ROWS: Final = 10_000
_BATCH: Final = 512

_log = logging.getLogger(__name__)


def row_of(receipt: Receipt, settings: RequestFileSettings) -> list[str]:
    """One row, by `COLUMNS`. What is not known is blank, never 0."""
    request, budget = receipt.request, receipt.request.budget
    output_tokens = _tokens(receipt.output_tokens)
    limit = _tokens(request.max_output_tokens)
    if limit and output_tokens and int(limit) < int(output_tokens):
        # The server went past the caller's limit: a replay could not.
        limit = ""
    return [
        _stamp(receipt.finished_at - receipt.e2e_ms / 1e3),
        request.origin,
        request.model,
        # As the server counted them, where it did.
        _tokens(receipt.input_tokens if receipt.input_tokens > 0.0 else request.input_tokens),
        output_tokens,
        _figure(budget.ttft_ms),
        _figure(budget.tpot_ms),
        _figure(budget.e2e_ms),
        kept_tenant(request.tenant, settings.tenant),
        ";".join(sorted(request.residency)),
        limit,
        f"{settings.sample:g}",
        receipt.decision_id,
        receipt.decision.endpoint.name,
        receipt.region,
        receipt.grid_zone,
        str(receipt.attempts),
        _figure(receipt.ttft_ms),
        _figure(receipt.e2e_ms),
        str(receipt.tokens_kind) if output_tokens else "",
        _figure(receipt.energy_j),
        str(receipt.energy_kind),
        _figure(receipt.gco2e),
        str(request.client_retries) if request.client_retries else "",
    ]


class RequestFile:
    """Takes receipts on the event loop and writes them in a thread of its own.

    ``on_rows``: called with how many rows were written and how many lost, from both threads.
    """

    def __init__(
        self,
        settings: RequestFileSettings | None,
        rng: Rng,
        on_rows: Callable[[int, int], None],
        max_rows: int = _MAX_ROWS,
    ) -> None:
        self._rng = rng
        self._on_rows = on_rows
        self._queue: queue.Queue[_Row | None] = queue.Queue(max_rows)
        self._thread: threading.Thread | None = None
        self._settings: RequestFileSettings | None = None
        self._file: AppendedFile | None = None
        self.configure(settings)

    def configure(self, settings: RequestFileSettings | None) -> None:
        """Write by ``settings`` from now on, into a file opened anew; None: write nothing."""
        self._settings = settings
        self._file = None
        if settings is None:
            return
        self._file = AppendedFile(settings.file, _line(COLUMNS), settings.max_bytes, settings.keep)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
            self._thread.start()

    def finished(self, receipt: Receipt) -> None:
        """Queue a row of ``receipt``, or of none, as the sample falls; never waits."""
        settings, file = self._settings, self._file
        if settings is None or file is None:
            return
        if settings.sample < 1.0 and self._rng.random() >= settings.sample:
            return
        try:
            self._queue.put_nowait(_Row(receipt, settings, file))
        except queue.Full:
            self._on_rows(0, 1)

    def close(self, timeout_s: float = 2.0) -> None:
        """Write out what is queued, giving up after ``timeout_s`` on a disk that has stalled."""
        if self._thread is None:
            return
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        failing, running = False, True
        while running:
            rows, running = self._batch()
            while rows:
                file = rows[0].file
                mine = [one for one in rows if one.file is file]
                rows = [one for one in rows if one.file is not file]
                failing = self._write(file, mine, failing)

    def _batch(self) -> tuple[list[_Row], bool]:
        """Rows that wait, at least one or the end; False at the end."""
        rows: list[_Row] = []
        while True:
            try:
                one = self._queue.get(block=not rows)
            except queue.Empty:
                return rows, True
            if one is None:
                return rows, False
            rows.append(one)
            if len(rows) == _BATCH:
                return rows, True

    def _write(self, file: AppendedFile, rows: list[_Row], failing: bool) -> bool:
        """Append; whether it failed, which is logged once until it succeeds again."""
        try:
            file.append("".join(_line(row_of(one.receipt, one.settings)) for one in rows))
        except (OSError, ValueError, OverflowError) as error:
            self._on_rows(0, len(rows))
            if not failing:
                _log.error("requests are not written to %s: %s", file.path, error)
            return True
        self._on_rows(len(rows), 0)
        return False


class _Row(NamedTuple):
    receipt: Receipt
    settings: RequestFileSettings
    file: AppendedFile


def _line(cells: tuple[str, ...] | list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _stamp(unix_s: float) -> str:
    if not math.isfinite(unix_s):
        return ""
    when = datetime.fromtimestamp(round(unix_s, 3), UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def _tokens(count: float) -> str:
    """A whole number a workload may hold; blank for what is not known or beyond it."""
    return str(round(count)) if 1.0 <= count <= MOST_TOKENS else ""


def _figure(value: float) -> str:
    return f"{value:.6g}" if 0.0 < value < math.inf else ""

"""Requests from a file: CSV, gzipped CSV, Parquet or a trace of JSON lines, read in chunks.

Columns, in any order: ``arrival_s, origin, model, input_tokens, output_tokens`` and optionally
``ttft_budget_ms, tpot_budget_ms, e2e_budget_ms, tenant, residency, deadline_s,
max_output_tokens, hash_ids``. ``origin`` may be left out where the fleet has a default one,
``model`` where it serves but one. A blank optional cell is "none"; other columns are left alone.
``residency`` holds jurisdictions separated by commas, semicolons, bars or blanks. The whole file is
read once to check it; a file of up to ``KEPT_ROWS`` requests stays in memory, a larger one is read
again at every pass and must be sorted.

A log of requests, as ``serve`` writes it, has ``time`` (UTC) instead of ``arrival_s``: whole days
are taken off, so that it begins on the scenario's first day and keeps its hours. Token counts that
nobody knew are blank there, and the means of their model stand in.

A folder with a ledger is read as such a log (`router.lab.sim.traffic.ledger_rows`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.config.problems import nearest
from router.errors import TraceError
from router.lab.sim.traffic.chained import chains_of, parsed_names
from router.lab.sim.traffic.columns import (
    BLOCK_TOKENS,
    NO_OUTPUT_LIMIT,
    NOT_DEFERRED,
    Chains,
    Names,
    Traffic,
    joined,
)
from router.lab.sim.traffic.generate import CHUNK_ROWS, rechunk
from router.lab.sim.traffic.ledger_rows import is_ledger, ledger_outcomes, open_ledger
from router.lab.sim.traffic.request_log import LogReplay
from router.lab.sim.traffic.request_rows import (
    ARRIVAL,
    BLOCKS,
    BUDGETS,
    NEEDED,
    OPTIONAL,
    TIME,
    Numbers,
    RequestRows,
    open_rows,
)
from router.telemetry.request_file import COLUMNS, MOST_TOKENS

KEPT_ROWS: Final = 4_000_000
_SEPARATORS = re.compile(r"[,;|\s]+")


class FileWorkload:
    """Requests from a file; a Workload. ``notes``: legal, but worth an operator's look.

    ``origins``: those that the fleet knows, None: any, a blank one too; ``models``: likewise, each
    with the longest context, in tokens, that any endpoint offers;
    ``duration_s``: later arrivals are left out. ``block_tokens``: in each of ``hash_ids``. Of a
    log: ``start``, unix s, is the scenario's, and
    ``lengths`` the mean prompt and answer of each model, tokens. Raises TraceError naming file,
    row, column and the fix; ConfigError without pyarrow.
    """

    def __init__(
        self,
        path: Path,
        duration_s: float,
        origins: Iterable[str] | None,
        models: Mapping[str, float],
        kept_rows: int = KEPT_ROWS,
        *,
        block_tokens: int = BLOCK_TOKENS,
        start: float = 0.0,
        lengths: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    ) -> None:
        self._path = path
        self._log = LogReplay(start, lengths)
        self._is_log = False
        self._duration_s = duration_s
        self._known = {"model": frozenset(models)}
        if origins is not None:
            self._known["origin"] = frozenset(origins)
        self._tables: dict[str, dict[str, int]] = {
            column: {} for column in ("origin", "model", "tenant")
        }
        self._residencies: dict[frozenset[str], int] = {frozenset(): 0}
        self.notes: list[str] = []
        self._contexts = models
        self._early = self._late = self._too_long = 0
        self.deferrable = 0
        self._first_s, self._last_s = math.inf, -math.inf
        self.rows = 0
        self._kept = self._check(kept_rows)
        if not self.rows:
            raise TraceError(f"{path.name}: {self._nothing()}")
        if self._is_log:
            self.notes += self._log.notes()
        if is_ledger(path):
            ended = ", ".join(f"{n} {how}" for how, n in sorted(ledger_outcomes(path).items()))
            self.notes.append(f"workload.file: a ledger, of all its requests {ended}")
        names = {column: tuple(table) for column, table in self._tables.items()}
        self.names = Names(
            names["origin"], names["model"], names["tenant"], tuple(self._residencies),
            block_tokens,
        )  # fmt: skip

    def chunks(self) -> Iterator[Traffic]:
        """Every request in order of arrival; a fresh pass at every call."""
        if self._kept is not None:
            return rechunk([self._kept], CHUNK_ROWS)
        return rechunk((traffic for traffic, _ in self._parts(lambda _: None)), CHUNK_ROWS)

    def _check(self, kept_rows: int) -> Traffic | None:
        """One pass over the file: everything is looked at; what is small is kept and sorted."""
        parts: list[Traffic] | None = []
        last_s, unsorted_row = -math.inf, 0
        for traffic, places in self._parts(self._note_columns):
            self.rows += len(traffic)
            at = traffic.arrival_s
            falls = np.flatnonzero(np.diff(at, prepend=last_s) < 0.0)
            if len(falls) and not unsorted_row:
                unsorted_row = places[int(falls[0])]
            last_s = float(at[-1])
            if parts is not None:
                parts.append(traffic)
                parts = parts if self.rows <= kept_rows else None
            if parts is None and unsorted_row:
                text = "arrives before the row above it; sort the file by arrival_s"
                raise self._error(unsorted_row, "arrival_s", text)
        if self._early:
            self.notes.append(
                f"workload.file: {self._early} requests arrive before the start and are left out"
            )
        if self._late:
            self.notes.append(
                f"workload.file: {self._late} requests arrive at or after the end "
                f"({self._duration_s:g} s) and are left out; the last one at {self._last_s:g} s"
            )
        if self.deferrable:
            self.notes.append(
                f"workload.file: {self.deferrable} requests have a deadline_s, which is not used: "
                + NOT_DEFERRED
            )
        if self._too_long:
            self.notes.append(
                f"workload.file: {self._too_long} prompts are longer than the context_tokens of "
                "every endpoint that serves their model; they will be refused"
            )
        if parts is None or not parts:
            return None
        whole = joined(parts)
        if unsorted_row:
            self.notes.append(
                f"workload.file: not in order of arrival (first at row {unsorted_row}); sorted"
            )
            order = np.argsort(whole.arrival_s, kind="stable")
            whole = whole.taken(order)
        return whole

    def _context(self, traffic: Traffic) -> NDArray[np.float64]:
        """The longest context of each request's model."""
        longest = np.array([self._contexts[model] for model in self._tables["model"]], np.float64)
        return np.asarray(longest[traffic.model])

    def _nothing(self) -> str:
        """Why no request is left."""
        if not self._late:
            return "holds no request, only a header"
        return (
            f"no request arrives in the scenario's {self._duration_s:g} s: arrival_s runs from "
            f"{self._first_s:.15g} to {self._last_s:.15g}; write seconds since the scenario's start"
        )

    def _parts(
        self, header: Callable[[Sequence[str]], None]
    ) -> Iterator[tuple[Traffic, Sequence[int]]]:
        """The requests that arrive in time, and their rows in the file; none empty."""
        opened = open_ledger if is_ledger(self._path) else open_rows
        for rows in opened(self._path, header):
            traffic = self._traffic(rows)
            early = traffic.arrival_s < 0.0
            inside = np.flatnonzero((traffic.arrival_s < self._duration_s) & ~early)
            self._early += int(early.sum())
            self._late += len(traffic) - len(inside) - int(early.sum())
            self._too_long += int((traffic.input_tokens > self._context(traffic))[inside].sum())
            self.deferrable += int((traffic.deadline_s[inside] < np.inf).sum())
            self._first_s = min(self._first_s, float(traffic.arrival_s.min()))
            self._last_s = max(self._last_s, float(traffic.arrival_s.max()))
            if len(inside) == len(traffic):
                yield traffic, rows.places
            elif len(inside):
                yield traffic.taken(inside), [rows.places[row] for row in inside.tolist()]

    def _note_columns(self, columns: Sequence[str]) -> None:
        self._is_log = TIME in columns and ARRIVAL not in columns
        for column in NEEDED:
            if column not in columns and not self._is_understood(column):
                raise self._error(
                    1, column, f"required, but not in the header{_hint(column, columns)}"
                )
        for column in columns:
            if columns.count(column) > 1:
                raise self._error(1, column, "stands in the header twice")
        expected = (*NEEDED, *OPTIONAL, *(COLUMNS if self._is_log else ()))
        others = [c for c in columns if c not in expected]
        if others:
            known = {other: nearest(other.lower(), OPTIONAL) for other in others}
            told = [f"{o} (is it {guess}?)" if guess else o for o, guess in known.items()]
            self.notes.append(f"workload.file: columns not used: {', '.join(told)}")

    def _is_understood(self, column: str) -> bool:
        """Whether a column that every request needs may be left out here."""
        if column == ARRIVAL:
            return self._is_log
        return column in ("origin", "model") and bool(self._usual(column))

    def _usual(self, column: str) -> tuple[str, ...]:
        """What a column that is left out stands for; empty where it must not be."""
        known = self._known.get(column)
        if known is None:
            return ("",)
        return tuple(known) if column == "model" and len(known) == 1 else ()

    def _traffic(self, rows: RequestRows) -> Traffic:
        if self._is_log:
            rows, wrong = self._log.completed(rows)
            if wrong is not None:
                text = f"{rows.texts[TIME][wrong][:40]!r} is not a time; write UTC as "
                raise self._error(rows.places[wrong], TIME, f"{text}2022-05-14T00:00:00.000Z")
        at = rows.numbers[ARRIVAL]
        self._require(
            rows, ARRIVAL, np.isfinite(at) & ((at >= 0.0) | self._is_log), "a time in s >= 0"
        )
        deadline = self._limits(rows, "deadline_s")
        self._require(
            rows, "deadline_s", deadline > at, "blank, or s after the start, past arrival"
        )
        ttft_ms, tpot_ms, e2e_ms = (self._limits(rows, column) for column in BUDGETS)
        return Traffic(
            at,
            self._codes(rows, "origin"),
            self._codes(rows, "model"),
            self._codes(rows, "tenant"),
            self._allowed(rows),
            self._tokens(rows, "input_tokens"),
            self._tokens(rows, "output_tokens"),
            ttft_ms,
            tpot_ms,
            e2e_ms,
            deadline,
            self._output_limit(rows),
            self._chains(rows),
        )

    def _chains(self, rows: RequestRows) -> Chains | None:
        texts = rows.texts.get(BLOCKS)
        if texts is None:
            return None
        names = [parsed_names(text) for text in texts]
        if None in names:
            text = texts[names.index(None)]
            what = f"{text[:40]!r} names no blocks; write whole numbers such as 46 47 48"
            raise self._error(rows.places[names.index(None)], BLOCKS, what)
        return chains_of([one or [] for one in names])

    def _tokens(self, rows: RequestRows, column: str) -> NDArray[np.int32]:
        values = rows.numbers[column]
        with np.errstate(invalid="ignore"):
            good = (values >= 1.0) & (values <= MOST_TOKENS) & (values == np.floor(values))
        what = f"a whole number from 1 to {MOST_TOKENS}"
        if column == "output_tokens" and (values == 0.0).any():
            what += " (leave out requests that got no answer)"
        self._require(rows, column, good, what)
        return values.astype(np.int32)

    def _output_limit(self, rows: RequestRows) -> NDArray[np.int32]:
        if "max_output_tokens" not in rows.numbers:
            return np.full(len(rows.places), NO_OUTPUT_LIMIT, np.int32)
        limits = np.minimum(self._limits(rows, "max_output_tokens"), NO_OUTPUT_LIMIT)
        good = limits >= rows.numbers["output_tokens"]
        text = "blank, or at least output_tokens: an answer ends at the caller's limit"
        self._require(rows, "max_output_tokens", good, text)
        return limits.astype(np.int32)

    def _limits(self, rows: RequestRows, column: str) -> Numbers:
        values = rows.numbers.get(column)
        if values is None:
            return np.full(len(rows.places), np.inf)
        limits = np.where(np.isnan(values), np.inf, values)
        self._require(rows, column, limits > 0.0, "above 0, or blank for none")
        return limits

    def _codes(self, rows: RequestRows, column: str) -> NDArray[np.int32]:
        table, known = self._tables[column], self._known.get(column)
        texts = rows.texts.get(column)
        if texts is None:
            usual = self._usual(column)[0]
            return np.full(len(rows.places), table.setdefault(usual, len(table)), np.int32)
        for text in dict.fromkeys(texts):
            if text in table:
                continue
            if known is not None and text not in known:
                self._unknown(rows, column, text)
            table[text] = len(table)
        return np.array([table[text] for text in texts], np.int32)

    def _unknown(self, rows: RequestRows, column: str, text: str) -> None:
        row = rows.places[list(rows.texts[column]).index(text)]
        known = sorted(self._known.get(column, ()))
        if not text:
            raise self._error(row, column, "is blank; every request needs one")
        guess = nearest(text, known)
        hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(known[:12])}"
        fix = "; or set default_origin" if column == "origin" else ""
        raise self._error(row, column, f"unknown {column} {text[:60]!r}; {hint}{fix}")

    def _allowed(self, rows: RequestRows) -> NDArray[np.int32]:
        texts = rows.texts.get("residency")
        if texts is None:
            return np.zeros(len(rows.places), np.int32)
        table = self._residencies
        code = {}
        for text in dict.fromkeys(texts):
            names = frozenset(name.lower() for name in _SEPARATORS.split(text) if name)
            code[text] = table.setdefault(names, len(table))
        return np.array([code[text] for text in texts], np.int32)

    def _require(self, rows: RequestRows, column: str, good: NDArray[np.bool_], what: str) -> None:
        if good.all():
            return
        place = int(np.argmin(good))
        value = rows.numbers[column][place]
        shown = "nothing" if math.isnan(value) else f"{value:g}"
        raise self._error(rows.places[place], column, f"must be {what}, got {shown}")

    def _error(self, row: int, column: str, text: str) -> TraceError:
        return TraceError(f"{self._path.name}: row {row}, column {column}: {text}")


def _hint(column: str, columns: Sequence[str]) -> str:
    guess = nearest(column, columns)
    if guess:
        return f"; is it {guess!r}?"
    if len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
        return "; separate cells by commas"
    return f", which holds {', '.join(columns[:12])[:200] or 'nothing'}"

"""A ledger's requests as rows of a workload: those of a log of requests, and what no log has.

Whatever became of it, a request that came is one: refused, failed and cancelled ones too. What was
wrong with the request itself is none. Rows are in order of arrival, however many there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from router.errors import DataError, RequestError, TraceError
from router.extras import need
from router.lab.sim.traffic.request_rows import BUDGETS, NUMBERS, TIME, RequestRows

_READ_ROWS: Final = 65_536
_COLUMNS: Final[tuple[str, ...]] = (
    TIME, "origin", "model", "input_tokens", "output_tokens", *BUDGETS, "tenant",
    "residency", "max_output_tokens",
)  # fmt: skip
# Arrival: the request's end, less what it took from its arrival on. Of what is not answered in
# full the length is nobody's; a limit below its answer was passed by the server.
_QUERY: Final = """
    select
        strftime(make_timestamp(epoch_us(finished_at)
            - cast(round(coalesce(e2e_ms, 0) * 1000) as bigint)), '%Y-%m-%dT%H:%M:%S.%fZ') as time,
        coalesce(origin, '') as origin,
        model,
        cast(nullif(input_tokens, 0) as double) as input_tokens,
        cast(answer as double) as output_tokens,
        cast(ttft_budget_ms as double) as ttft_budget_ms,
        cast(tpot_budget_ms as double) as tpot_budget_ms,
        cast(e2e_budget_ms as double) as e2e_budget_ms,
        coalesce(tenant, '') as tenant,
        coalesce(residency, '') as residency,
        cast(case when max_output_tokens >= coalesce(answer, 1) then max_output_tokens end
            as double) as max_output_tokens
    from (
        select *, case when outcome = 'answered' then nullif(output_tokens, 0) end as answer
        from receipts
        where outcome <> 'moved' and coalesce(reason, '') not in (select unnest(?))
    )
    order by time, writer, seq
"""
_COUNTS: Final = """
    select outcome, count(*) from receipts
    where outcome <> 'moved' and coalesce(reason, '') not in (select unnest(?))
    group by outcome order by outcome
"""


def is_ledger(path: Path) -> bool:
    """Whether receipts lie there."""
    return (path / "receipts").is_dir()


def open_ledger(path: Path, columns: Callable[[Sequence[str]], None]) -> Iterator[RequestRows]:
    """As `request_rows.open_rows`, of a ledger's folder. Raises TraceError for one that cannot be
    read, ConfigError without what it takes."""
    columns(_COLUMNS)
    first = 1
    for batch in _batches(path, _QUERY):
        count = batch.num_rows
        if not count:
            continue
        numbers = {
            name: batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
            for name in _COLUMNS
            if name in NUMBERS
        }
        texts = {name: batch.column(name).to_pylist() for name in _COLUMNS if name not in NUMBERS}
        yield RequestRows(range(first, first + count), numbers, texts)
        first += count


def ledger_outcomes(path: Path) -> Counter[str]:
    """How many of those requests ended how. Raises as `open_ledger`."""
    found: Counter[str] = Counter()
    for batch in _batches(path, _COUNTS):
        outcomes, counts = (column.to_pylist() for column in batch.columns)
        found.update(dict(zip(outcomes, counts, strict=True)))
    return found


def _batches(path: Path, query: str) -> Iterator[Any]:
    with need("ledger", "reading a ledger", file=str(path)):
        import duckdb
        import pyarrow

        from router.ledger.reading import relation
        from router.ledger.tables import RECEIPTS
    try:
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            relation(connection, path, RECEIPTS).create_view("receipts")
            found = connection.sql(query, params=[_own_faults()])
            yield from found.to_arrow_reader(_READ_ROWS)
    except (duckdb.Error, pyarrow.ArrowException, DataError, OSError) as error:
        raise TraceError(f"{path.name}: a ledger that cannot be read: {error}") from None


def _own_faults() -> list[str]:
    """Reasons of requests that no fleet would have served."""
    found, kinds = set(), [RequestError]
    while kinds:
        kind = kinds.pop()
        found.add(kind.reason)
        kinds += kind.__subclasses__()
    return sorted(found)

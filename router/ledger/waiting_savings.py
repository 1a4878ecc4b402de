"""What waiting saved: answers that could wait, against the same joules at once.

By receipts, of both sides: what each row says of the place and hour in which it would have run when
it came, at the intensity that was known for it then. Not priced anew: a later price of the hour
that it ran in has no counterpart for the hour that it did not.
"""

from __future__ import annotations

from typing import NamedTuple

import duckdb

from router.ledger.month import US_PER_S, Month
from router.ledger.quantities import G_QUANTA


class WaitedWork(NamedTuple):
    """Of a ``group``, its answers of one ``basis`` (of the baseline, "" where none is known), in
    the hours in which they ended. ``waited_us``: all of them together. ``compared``: of which both
    figures are known; of these ``at_once_g`` and ``emitted_g``, in quanta, and the ``kinds`` of
    intensity that baselines were of."""

    group: str
    basis: str
    answered: int
    waited_us: int
    compared: int
    at_once_g: int
    emitted_g: int
    kinds: tuple[str, ...]


def waited_work(
    connection: duckdb.DuckDBPyConnection, month: Month, group: str
) -> list[WaitedWork]:
    """Of the view ``receipts``, by ``group`` (a column of it) and basis, in that order. What did
    not wait, and what nobody answered, is not in it."""
    first, last = month.days_of_rows
    from_us, to_us = month.span_us
    is_known = "at_once_gco2e IS NOT NULL AND gco2e IS NOT NULL"
    grams = f"coalesce(sum(CAST(round({{}} * {G_QUANTA}) AS HUGEINT)) FILTER ({is_known}), 0)"
    rows = connection.execute(
        f"""
        SELECT coalesce({group}, '') AS told, coalesce(at_once_basis, '') AS basis, count(*),
            sum(CAST(round(CAST(waited_s AS DOUBLE) * {US_PER_S}) AS HUGEINT)),
            count(*) FILTER ({is_known}),
            {grams.format("at_once_gco2e")}, {grams.format("gco2e")},
            list_sort(list(DISTINCT at_once_kind) FILTER ({is_known} AND at_once_kind IS NOT NULL))
        FROM receipts
        WHERE date BETWEEN DATE '{first}' AND DATE '{last}'
            AND epoch_us(finished_at) >= {from_us} AND epoch_us(finished_at) < {to_us}
            AND waited_s IS NOT NULL AND outcome = 'answered'
        GROUP BY ALL ORDER BY told, basis
        """
    ).fetchall()
    return [
        WaitedWork(
            told, basis, count, int(waited_us), compared, int(at_once_g), int(emitted_g),
            tuple(kinds or ()),
        )
        for told, basis, count, waited_us, compared, at_once_g, emitted_g, kinds in rows
    ]  # fmt: skip

"""Receipts of a month added up by hour, place and whose they are: one pass, in integers.

Joules are counted in 2^-20 J and grams in 2^-24 g, as the ledger rounds them, so that every sum is
exact whatever reads in whatever order. A run that crosses hours gives each its share by time,
rounded down at each full hour: the shares add up to the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import duckdb

from router.ledger.month import US_PER_HOUR, US_PER_S, Month
from router.ledger.quantities import G_QUANTA, J_QUANTA
from router.units import J_PER_KWH

# By what a cell is told from others, besides its hour. Two cells differ in one of them.
KEYS: Final = (
    "model", "tenant", "region", "grid_zone", "endpoint", "profile", "energy_kind", "basis",
    "factors", "pue",
)  # fmt: skip
# Of the whole row, counted in the hour in which it ended.
_COUNTS: Final = {
    "answered": "outcome = 'answered'",
    "failed": "outcome = 'failed'",
    "cancelled": "outcome = 'cancelled'",
    "refused": "outcome = 'refused'",
    "moved": "outcome = 'moved'",
    "asked_again": "client_retries > 0 AND outcome <> 'moved'",
    "unmetered": "energy_j IS NULL AND outcome <> 'refused'",
    "ungrammed": "gco2e IS NULL AND energy_j IS NOT NULL",
    "untimed": "run_s IS NULL AND outcome <> 'refused'",
}
_TOKENS: Final = {
    "input_tokens": "CASE WHEN outcome = 'answered' THEN input_tokens END",
    "cached_tokens": "CASE WHEN outcome = 'answered' THEN cached_tokens END",
    "output_tokens": "CASE WHEN outcome = 'answered' THEN output_tokens END",
    "estimated_tokens": "CASE WHEN outcome = 'answered' AND tokens_kind IN ('estimated', "
    "'assumed') THEN output_tokens END",
}
_FACILITY_J: Final = "(energy_j * coalesce(pue, 1) + coalesce(network_j, 0))"


def _quanta(expression: str, quanta: int) -> str:
    return f"CAST(round({expression} * {quanta}) AS BIGINT)"


def _grams(joules: str, g_per_kwh: str) -> str:
    return _quanta(f"{joules} / {J_PER_KWH!r} * {g_per_kwh}", G_QUANTA)


# Figures that a run of several hours shares out, in quanta. Null where not known.
_SHARED: Final = {
    "it_q": _quanta("energy_j", J_QUANTA),
    "network_q": _quanta("coalesce(network_j, 0)", J_QUANTA),
    "low_q": _quanta("coalesce(energy_low_j, energy_j)", J_QUANTA),
    "high_q": _quanta("coalesce(energy_high_j, energy_j)", J_QUANTA),
    "prompt_q": _quanta("prompt_energy_j", J_QUANTA),
    "g_q": _quanta("gco2e", G_QUANTA),
    # Energy of which there are grams, of the facility: what g_q is the intensity of.
    "priced_q": _quanta(f"CASE WHEN gco2e IS NOT NULL THEN {_FACILITY_J} END", J_QUANTA),
    "low_g_q": _grams(
        "(coalesce(energy_low_j, energy_j) * coalesce(pue, 1) + coalesce(network_j, 0))",
        "coalesce(low_g_per_kwh, g_per_kwh)",
    ),
    "high_g_q": _grams(
        "(coalesce(energy_high_j, energy_j) * coalesce(pue, 1) + coalesce(network_j, 0))",
        "coalesce(high_g_per_kwh, g_per_kwh)",
    ),
    "marginal_g_q": _grams(_FACILITY_J, "marginal_g_per_kwh"),
    "marginal_priced_q": _quanta(
        f"CASE WHEN marginal_g_per_kwh IS NOT NULL THEN {_FACILITY_J} END", J_QUANTA
    ),
}
# What a retried or abandoned request took, out of it_q.
_LOST: Final = {
    "moved_q": "moved",
    "cancelled_q": "cancelled",
    "failed_q": "failed",
}
# Predictions at the decision: of rows that have both, so that the two can be compared.
_PREDICTED: Final = {
    "predicted_q": "predicted_gco2e",
    "latency_first_q": "latency_first_gco2e",
}

MEASURES: Final = (
    "rows", *_COUNTS, *_TOKENS, *_SHARED, *_LOST, *_PREDICTED, "run_us", "origin_rows",
)  # fmt: skip


def build_cells(
    connection: duckdb.DuckDBPyConnection, month: Month, dimensions: Sequence[str] = ()
) -> None:
    """Make the table ``cells`` of the view ``receipts``: a row an hour and `KEYS`, `MEASURES`.

    ``dimensions``: of ``model`` and ``tenant`` those that are wanted; the others are "". Sums of
    figures that no row of a cell has are 0; what is missing is counted in ``unmetered`` (rows
    without energy) and ``ungrammed`` (rows with energy and without grams).
    """
    keys = [_key(name, dimensions) for name in KEYS]
    kept = ", ".join(
        ["outcome", *keys, *_whole(), *(f"{sql} AS {name}" for name, sql in _SHARED.items())]
    )
    first, last = month.days_of_rows
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE cells AS
        WITH timed AS (
            SELECT *, epoch_us(finished_at) AS end_us,
                greatest(0, CAST(round(CAST(coalesce(run_s, 0) AS DOUBLE) * {US_PER_S}) AS BIGINT))
                    AS run_us
            FROM receipts WHERE date BETWEEN DATE '{first}' AND DATE '{last}'
        ), figured AS (
            SELECT {kept}, end_us, run_us, end_us - run_us AS start_us,
                (end_us - run_us) // {US_PER_HOUR} AS first_hour,
                (end_us - least(run_us, 1)) // {US_PER_HOUR} AS last_hour
            FROM timed
        ), parts AS (
            SELECT * EXCLUDE (first_hour, last_hour, start_us, end_us, outcome), outcome,
                first_hour AS hour, true AS ends
            FROM figured WHERE first_hour = last_hour
            UNION ALL
            SELECT * EXCLUDE (first_hour, last_hour, start_us, end_us, outcome, hour, ends,
                from_us, to_us, whole_us) REPLACE ({_parted()}), outcome, hour, ends
            FROM (
                SELECT *, hour = last_hour AS ends, run_us AS whole_us,
                    greatest(hour * {US_PER_HOUR}, start_us) - start_us AS from_us,
                    least((hour + 1) * {US_PER_HOUR}, end_us) - start_us AS to_us
                FROM (
                    SELECT *, unnest(range(first_hour, last_hour + 1)) AS hour
                    FROM figured WHERE first_hour < last_hour
                )
            )
        )
        SELECT hour, {", ".join(KEYS)}, {_sums()}
        FROM parts WHERE hour BETWEEN {month.first_hour} AND {month.end_hour - 1}
        GROUP BY ALL
        """
    )


def _key(name: str, dimensions: Sequence[str]) -> str:
    if name in ("model", "tenant") and name not in dimensions:
        return f"'' AS {name}"
    if name == "pue":
        return "coalesce(pue, 1.0) AS pue"
    return f"coalesce({name}, '') AS {name}"


def _whole() -> list[str]:
    """Figures of the row that are not shared out: they count where it ended."""
    counts = [f"CAST(coalesce({sql}, false) AS BIGINT) AS {name}" for name, sql in _COUNTS.items()]
    tokens = [f"{sql} AS {name}" for name, sql in _TOKENS.items()]
    both = "predicted_gco2e IS NOT NULL AND latency_first_gco2e IS NOT NULL"
    predicted = [
        f"CASE WHEN {both} THEN {_quanta(column, G_QUANTA)} END AS {name}"
        for name, column in _PREDICTED.items()
    ]
    return [*counts, *tokens, *predicted, "CAST(origin IS NOT NULL AS BIGINT) AS origin_rows"]


def _parted() -> str:
    shares = [
        f"CAST(CAST({name} AS HUGEINT) * to_us // whole_us "
        f"- CAST({name} AS HUGEINT) * from_us // whole_us AS BIGINT) AS {name}"
        for name in _SHARED
    ]
    return ", ".join([*shares, "to_us - from_us AS run_us"])


def _sums() -> str:
    ended = [*_COUNTS, *_TOKENS, *_PREDICTED, "origin_rows"]
    columns = ["count(*) FILTER (ends) AS rows"]
    columns += [f"coalesce(sum({name}) FILTER (ends), 0) AS {name}" for name in ended]
    columns += [f"coalesce(sum({name}), 0) AS {name}" for name in (*_SHARED, "run_us")]
    columns += [
        f"coalesce(sum(it_q) FILTER (outcome = '{outcome}'), 0) AS {name}"
        for name, outcome in _LOST.items()
    ]
    return ", ".join(columns)

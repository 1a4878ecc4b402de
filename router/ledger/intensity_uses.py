"""Which intensities receipts were made with, and how far those were off what was settled."""

from __future__ import annotations

from typing import Final, NamedTuple

import duckdb

from router.ledger.month import US_PER_HOUR, Month

# Hours from when a value was known to when it was used, the last without an end.
LEADS_H: Final = (0, 1, 3, 6, 12, 24, 48)
# Of g/kWh: means are taken of whole thousandths, so that they do not depend on an order.
_PART: Final = 1000


class IntensityError(NamedTuple):
    """Of one kind in one grid zone at one lead, over ``hours``. Errors are of g/kWh: ``mean_error``
    above 0 where receipts said too much; ``mean_absolute`` and ``relative`` (of the settled mean);
    ``within``: share of hours whose settled value lay in the receipts' 90 % interval."""

    grid_zone: str
    kind: str
    lead_h: int
    hours: int
    settled_mean: float
    mean_error: float
    mean_absolute: float
    relative: float
    within: float


def build_uses(connection: duckdb.DuckDBPyConnection, month: Month) -> None:
    """Make the table ``uses`` of the view ``receipts``: per hour, grid zone, kind, source and lead
    what intensities receipts had on the mean."""
    first, last = month.days_of_rows
    lead = f"(epoch_us(finished_at) - epoch_us(intensity_observed_at)) // {US_PER_HOUR}"
    steps = " ".join(
        f"WHEN lead >= {start} THEN {start}" for start in sorted(LEADS_H, reverse=True)
    )
    means = ", ".join(
        f"sum(CAST(round(CAST({column} AS DOUBLE) * {_PART}) AS BIGINT)) "
        f"/ count({column}) / {_PART} AS {name}"
        for column, name in (
            ("g_per_kwh", "g"), ("low_g_per_kwh", "low_g"), ("high_g_per_kwh", "high_g"),
        )
    )  # fmt: skip
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE uses AS
        SELECT epoch_us(finished_at) // {US_PER_HOUR} AS hour, grid_zone, basis, factors,
            coalesce(intensity_kind, '') AS kind, coalesce(intensity_source, '') AS source,
            CASE WHEN lead IS NULL THEN -1 {steps} ELSE 0 END AS lead_h,
            count(*) AS rows, max(epoch_us(intensity_observed_at)) AS observed_us, {means}
        FROM (
            SELECT *, {lead} AS lead FROM receipts
            WHERE date BETWEEN DATE '{first}' AND DATE '{last}'
                AND g_per_kwh IS NOT NULL AND grid_zone IS NOT NULL
        )
        GROUP BY ALL HAVING epoch_us(max(finished_at)) // {US_PER_HOUR}
            BETWEEN {month.first_hour} AND {month.end_hour - 1}
        """
    )


def intensity_errors(connection: duckdb.DuckDBPyConnection) -> list[IntensityError]:
    """Of the tables ``uses`` and ``price_rows``: every hour counts once, however busy it was."""
    found = connection.execute(
        """
        WITH hours AS (
            SELECT grid_zone, hour, u.kind, lead_h, p.g AS settled,
                CAST(round(1000 * (sum(u.g * rows ORDER BY u.source) / sum(rows) - p.g)) AS BIGINT)
                    AS error,
                bool_and(p.g BETWEEN u.low_g - 0.001 AND u.high_g + 0.001) AS within
            FROM uses u JOIN price_rows p USING (grid_zone, hour, basis, factors)
            GROUP BY grid_zone, hour, u.kind, lead_h, p.g
        )
        SELECT grid_zone, kind, lead_h, count(*),
            sum(CAST(round(settled * 1000) AS BIGINT)) / count(*) / 1000.0,
            sum(error) / count(*) / 1000.0, sum(abs(error)) / count(*) / 1000.0,
            sum(abs(error)) / nullif(sum(CAST(round(settled * 1000) AS BIGINT)), 0),
            count(*) FILTER (within) / count(*)
        FROM hours GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()
    return [IntensityError(*row) for row in found]

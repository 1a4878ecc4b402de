"""What the fleet drew beside its requests, and gateways, by hour: as reports price it.

Of an endpoint's hour the total is what its meter counted, or else its idle and awake joules by
profile. Of that, requests account for what their receipts say, idle for what it stood ready; what
is left, of either sign, is the difference. A process that was killed takes the span along that it
had begun: an hour in which a request ended outside of all spans has no difference, for it would be
less than nothing by what that request took.
"""

from __future__ import annotations

import duckdb

from router.ledger.month import US_PER_HOUR, Month
from router.ledger.quantities import J_QUANTA
from router.model import Basis, Factors

# A span ends a moment before the requests that it saw are told.
_LATE_US = 1_000_000


def fill_fleet(connection: duckdb.DuckDBPyConnection, month: Month, factors: Factors) -> None:
    """Fill ``idle_rows``, ``gateway_rows`` and ``said_rows`` from the views ``energy`` and
    ``receipts`` and the table ``cells``.

    An hour of which nobody knows the watts (no meter, and no profile) has idle energy as far as
    that is known, and no difference.
    """
    hour = f"epoch_us(since) // {US_PER_HOUR}"
    of_month = f"{_days(month)} AND {hour} BETWEEN {month.first_hour} AND {month.end_hour - 1}"

    def quanta(joules: str) -> str:
        return f"CAST(round(({joules}) * {J_QUANTA}) AS BIGINT)"

    connection.execute(
        f"""
        INSERT INTO idle_rows
        WITH spans AS (
            SELECT {hour} AS hour, endpoint, max(region) AS region, max(grid_zone) AS grid_zone,
                max(pue) AS pue, coalesce(sum({quanta("idle_j")}), 0) AS idle_q,
                sum({quanta("coalesce(metered_j, idle_j + awake_j, idle_j, awake_j)")}) AS total_q,
                bool_and(metered_j IS NOT NULL
                    OR (awake_j IS NOT NULL OR coalesce(awake_s, 0) = 0)) AS is_known
            FROM energy WHERE part = 'endpoint' AND endpoint IS NOT NULL AND {of_month}
            GROUP BY ALL
        ), requests AS (
            SELECT hour, endpoint, sum(it_q) AS it_q FROM cells GROUP BY ALL
        ), outside AS (
            SELECT DISTINCT epoch_us(r.finished_at) // {US_PER_HOUR} AS hour, r.endpoint
            FROM (
                SELECT endpoint, finished_at FROM receipts
                WHERE endpoint IS NOT NULL AND energy_j > 0 AND {_days(month)}
            ) r
            ASOF LEFT JOIN (
                SELECT endpoint, since, until FROM energy
                WHERE part = 'endpoint' AND endpoint IS NOT NULL
            ) s ON r.endpoint = s.endpoint AND r.finished_at >= s.since
            WHERE s.until IS NULL OR epoch_us(r.finished_at) > epoch_us(s.until) + {_LATE_US}
        )
        SELECT hour, endpoint, coalesce(region, ''), coalesce(grid_zone, ''), coalesce(pue, 1.0),
            idle_q, CASE WHEN is_known AND total_q IS NOT NULL AND outside.endpoint IS NULL
                THEN total_q - idle_q - coalesce(it_q, 0) ELSE 0 END
        FROM spans LEFT JOIN requests USING (hour, endpoint)
            LEFT JOIN outside USING (hour, endpoint)
        """
    )
    connection.execute(
        f"""
        INSERT INTO gateway_rows
        SELECT {hour}, coalesce(region, ''), coalesce(grid_zone, ''), coalesce(pue, 1.0),
            sum({quanta("awake_j")})
        FROM energy WHERE part = 'gateway' AND awake_j IS NOT NULL AND {of_month} GROUP BY ALL
        """
    )
    # Means of thousandths: they do not depend on an order.
    connection.execute(
        f"""
        INSERT INTO said_rows
        SELECT grid_zone, {hour} AS hour,
            sum(CAST(round(g_per_kwh * 1000) AS BIGINT)) / count(*) / 1000
        FROM energy WHERE grid_zone IS NOT NULL AND g_per_kwh IS NOT NULL
            AND basis = '{Basis.AVERAGE}' AND factors = '{factors}' AND {of_month}
        GROUP BY ALL
        """
    )


def _days(month: Month) -> str:
    return f"date BETWEEN DATE '{month.first_day}' AND DATE '{month.last_day}'"

"""What requests would have emitted where they came from, of those whose origin is a region."""

from __future__ import annotations

from typing import NamedTuple

import duckdb

from router.ledger.month import US_PER_HOUR, Month
from router.ledger.priced_cells import GRAMS_PER_QUANTUM
from router.ledger.quantities import J_QUANTA


class AtHome(NamedTuple):
    """Sums of the attempts that have both figures, in quanta of grams: IT energy of each at the
    mean price of its hour, where it ran and in the region that it came from."""

    rows: int
    there_g: int
    home_g: int


def at_home(connection: duckdb.DuckDBPyConnection, month: Month, group: str) -> dict[str, AtHome]:
    """Of the view ``receipts`` and the table ``lines``, by ``group``: a column of receipts.

    The same joules are taken: that other hardware would have served them is not known here.
    """
    first, last = month.days_of_rows
    grams = f"CAST(round((energy_j * {{}} + coalesce(network_j, 0)) * {J_QUANTA} * {{}} "
    grams += f"* {GRAMS_PER_QUANTUM}) AS HUGEINT)"
    rows = connection.execute(
        f"""
        WITH prices AS (
            SELECT hour, grid_zone, sum(operational_g) / sum(facility_q - unpriced_q)
                / {GRAMS_PER_QUANTUM} AS price
            FROM lines WHERE grid_zone <> '' GROUP BY ALL HAVING sum(facility_q - unpriced_q) > 0
        ), places AS (
            SELECT region, min(grid_zone) AS grid_zone, min(pue) AS pue FROM lines
            WHERE region <> '' GROUP BY region HAVING count(DISTINCT grid_zone) = 1
        )
        SELECT told, count(*), sum({grams.format("pue", "there.price")}),
            sum({grams.format("home_pue", "here.price")})
        FROM (
            SELECT coalesce(r.{group}, '') AS told,
                epoch_us(r.finished_at) // {US_PER_HOUR} AS hour,
                r.energy_j, r.network_j, coalesce(r.pue, 1) AS pue, r.grid_zone,
                p.grid_zone AS home_zone, p.pue AS home_pue
            FROM receipts r JOIN places p ON r.origin = p.region
            WHERE date BETWEEN DATE '{first}' AND DATE '{last}' AND energy_j IS NOT NULL
        ) r
        JOIN prices there ON there.hour = r.hour AND there.grid_zone = r.grid_zone
        JOIN prices here ON here.hour = r.hour AND here.grid_zone = r.home_zone
        WHERE r.hour BETWEEN {month.first_hour} AND {month.end_hour - 1}
        GROUP BY told ORDER BY told
        """
    ).fetchall()
    return {told: AtHome(int(count), int(there), int(home)) for told, count, there, home in rows}

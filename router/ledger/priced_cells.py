"""Cells of receipts with all that belongs to them: what stood idle, embodied, and grams by price.

What an endpoint drew without a request, and what making it emitted, is borne by who used it in
that hour, by their energy; where nobody did, by who used it in the month. What a gateway drew is
borne by requests alike. Shares are rounded down along the sorted bearers: they add up to the whole.

An hour's grams are its energy at the newest price of its grid zone; where there is none yet, at
what its receipts said. Where neither is known there are no grams, and the energy is counted as
unpriced.
"""

from __future__ import annotations

from typing import Final

import duckdb

from router.ledger.hour_cells import KEYS, MEASURES
from router.ledger.quantities import G_QUANTA, J_QUANTA
from router.model import Basis, Factors
from router.units import J_PER_KWH

# What is read of tables that whoever prices brings; all of them may be empty.
INPUTS: Final = {
    # Newest prices. hour: since 1970.
    "price_rows": "grid_zone VARCHAR, hour BIGINT, basis VARCHAR, factors VARCHAR, g DOUBLE, "
    "low_g DOUBLE, high_g DOUBLE, kind VARCHAR, source VARCHAR, revision BIGINT, "
    "observed_us BIGINT",
    # PUE of the month, instead of that on receipts.
    "pue_rows": "region VARCHAR, pue DOUBLE",
    # What endpoints drew without a request, and what meters told beyond (or below) receipts.
    "idle_rows": "hour BIGINT, endpoint VARCHAR, region VARCHAR, grid_zone VARCHAR, pue DOUBLE, "
    "idle_q BIGINT, difference_q BIGINT",
    # What gateways drew.
    "gateway_rows": "hour BIGINT, region VARCHAR, grid_zone VARCHAR, pue DOUBLE, gateway_q BIGINT",
    # Intensities that were known when idle energy was written down, for hours without receipts.
    "said_rows": "grid_zone VARCHAR, hour BIGINT, g DOUBLE",
    # What making the hardware emitted, for each hour that it is held.
    "embodied_rows": "profile VARCHAR, g_per_hour DOUBLE",
    # Of IT energy, the part that GPUs draw, by profile.
    "gpu_rows": "profile VARCHAR, gpu_share DOUBLE",
}

# Energy by component, in 2^-20 J: they add up to facility_q.
ENERGY_PARTS: Final = (
    "it_q", "idle_q", "difference_q", "overhead_q", "network_q", "gateway_q",
)  # fmt: skip
# Grams by component, in 2^-24 g: with embodied_g they add up to total_g.
GRAM_PARTS: Final = ("it_g", "idle_g", "difference_g", "overhead_g", "network_g", "gateway_g")
SUMS: Final = (
    *MEASURES, "idle_q", "difference_q", "overhead_q", "gateway_q", "facility_q", "gpu_q",
    "gpu_known_q", *GRAM_PARTS, "operational_g", "embodied_g", "total_g", "unpriced_q",
    "settled_q", "settled_g", "settled_receipted_g", "low_total_g", "high_total_g",
    "marginal_total_g", "marginal_known_q",
)  # fmt: skip

_KEYS: Final = ", ".join(KEYS)
# Grams in quanta of one quantum of energy at 1 g/kWh.
GRAMS_PER_QUANTUM: Final = f"{G_QUANTA / J_QUANTA / J_PER_KWH!r}"


def make_inputs(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty tables of `INPUTS`, those that are not there."""
    for name, columns in INPUTS.items():
        connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {name} ({columns})")


def price_cells(connection: duckdb.DuckDBPyConnection, factors: Factors) -> None:
    """Make the table ``lines`` of ``cells`` and `INPUTS`: a row an hour and key, with `SUMS`.

    ``factors``: of the average intensities that grams are of; receipts of others are unpriced.
    """
    _spread_endpoints(connection)
    _spread_gateways(connection)
    borne = ", ".join(f"sum({name}) AS {name}" for name in (*MEASURES, *_BORNE))
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE borne AS
        SELECT hour, {_KEYS}, {borne} FROM (
            SELECT hour, {_KEYS}, {", ".join(MEASURES)}, {_zeros(_BORNE)} FROM cells
            UNION ALL SELECT hour, {_KEYS}, {_zeros(MEASURES)}, {", ".join(_BORNE)} FROM by_endpoint
            UNION ALL SELECT hour, {_KEYS}, {_zeros(MEASURES)}, {", ".join(_BORNE)} FROM by_gateway
        ) GROUP BY ALL
        """
    )
    _price(connection, factors)


_BORNE: Final = ("idle_q", "difference_q", "embodied_g", "unmade_hours", "gateway_q")


def _zeros(names: tuple[str, ...]) -> str:
    return ", ".join(f"0::HUGEINT AS {name}" for name in names)


def _spread_endpoints(connection: duckdb.DuckDBPyConnection) -> None:
    """Idle, difference and embodied of endpoints, borne by cells' keys: ``by_endpoint``."""
    others = ", ".join(key for key in KEYS if key != "endpoint")
    month = ", ".join(f"any_value({key}) AS {key}" for key in ("region", "grid_zone", "pue"))
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE by_endpoint AS
        WITH users AS (
            SELECT hour, {_KEYS}, it_q AS weight FROM cells WHERE endpoint <> '' AND it_q > 0
        ), made AS (
            SELECT endpoint, max(g_per_hour) AS g_per_hour
            FROM (SELECT DISTINCT endpoint, profile FROM users) JOIN embodied_rows USING (profile)
            GROUP BY endpoint
        ), held AS (
            SELECT DISTINCT hour, endpoint FROM users
            UNION SELECT hour, endpoint FROM idle_rows
        ), taken AS (
            SELECT hour, endpoint, sum(idle_q) AS idle_q, sum(difference_q) AS difference_q, {month}
            FROM idle_rows GROUP BY hour, endpoint
        ), wholes AS (
            SELECT hour, endpoint, coalesce(idle_q, 0) AS idle_q, region, grid_zone, pue,
                coalesce(difference_q, 0) AS difference_q,
                coalesce(CAST(round(g_per_hour * {G_QUANTA}) AS BIGINT), 0) AS embodied_g,
                CAST(g_per_hour IS NULL AS BIGINT) AS unmade_hours
            FROM held LEFT JOIN taken USING (hour, endpoint) LEFT JOIN made USING (endpoint)
        ), month AS (
            SELECT {_KEYS}, sum(weight) AS weight FROM users GROUP BY ALL
        ), bearers AS (
            SELECT hour, {_KEYS}, weight FROM users
            UNION ALL
            SELECT w.hour, {", ".join(f"m.{key}" for key in KEYS)}, m.weight
            FROM (SELECT * FROM wholes ANTI JOIN users USING (hour, endpoint)) w
            JOIN month m USING (endpoint)
            UNION ALL
            SELECT hour, '' AS model, '' AS tenant, region, grid_zone, endpoint, '' AS profile,
                '' AS energy_kind, 'average' AS basis, '' AS factors, coalesce(pue, 1.0) AS pue,
                1 AS weight
            FROM wholes ANTI JOIN users USING (endpoint)
        ), placed AS (
            SELECT *, sum(weight) OVER (PARTITION BY hour, endpoint) AS whole,
                sum(weight) OVER (PARTITION BY hour, endpoint ORDER BY {others}) AS until
            FROM bearers
        )
        SELECT hour, {", ".join(f"p.{key}" for key in KEYS)},
            {_share("idle_q")}, {_share("difference_q")}, {_share("embodied_g")},
            CAST(until = whole AS BIGINT) * unmade_hours AS unmade_hours,
            0::HUGEINT AS gateway_q
        FROM placed p JOIN wholes USING (hour, endpoint)
        """
    )


def _spread_gateways(connection: duckdb.DuckDBPyConnection) -> None:
    """What gateways drew, borne by models and tenants by their rows: ``by_gateway``."""
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE by_gateway AS
        WITH users AS (
            SELECT hour, model, tenant, sum(rows) AS weight FROM cells WHERE rows > 0
            GROUP BY ALL
        ), wholes AS (
            SELECT hour, region, grid_zone, pue, sum(gateway_q) AS gateway_q FROM gateway_rows
            GROUP BY ALL
        ), bearers AS (
            SELECT hour, model, tenant, weight FROM users
            UNION ALL
            SELECT hour, m.model, m.tenant, m.weight
            FROM (SELECT DISTINCT hour FROM wholes ANTI JOIN users USING (hour))
            CROSS JOIN (SELECT model, tenant, sum(weight) AS weight FROM users GROUP BY ALL) m
        ), placed AS (
            SELECT *, sum(weight) OVER (PARTITION BY hour) AS whole,
                sum(weight) OVER (PARTITION BY hour ORDER BY model, tenant) AS until
            FROM bearers
        )
        SELECT hour, coalesce(model, '') AS model, coalesce(tenant, '') AS tenant,
            coalesce(region, '') AS region, coalesce(grid_zone, '') AS grid_zone, '' AS endpoint,
            '' AS profile, '' AS energy_kind, 'average' AS basis, '' AS factors,
            coalesce(pue, 1.0) AS pue, 0::HUGEINT AS idle_q, 0::HUGEINT AS difference_q,
            0::HUGEINT AS embodied_g, 0::HUGEINT AS unmade_hours,
            coalesce({_share_of("gateway_q")}, gateway_q) AS gateway_q
        FROM wholes LEFT JOIN placed USING (hour)
        """
    )


def _share_of(name: str) -> str:
    """Of differences of what was shared out until then: whichever way // rounds, they add up."""
    whole = f"CAST({name} AS HUGEINT)"
    return f"{whole} * until // whole - {whole} * (until - weight) // whole"


def _share(name: str) -> str:
    return f"{_share_of(name)} AS {name}"


def _price(connection: duckdb.DuckDBPyConnection, factors: Factors) -> None:
    average, marginal = Basis.AVERAGE, Basis.MARGINAL

    def grams(joules: str, price: str) -> str:
        return f"CAST(round(({joules}) * {price} * {GRAMS_PER_QUANTUM}) AS HUGEINT)"

    own_low = grams("low_q * pue + network_q + rest_q", "low_price")
    own_high = grams("high_q * pue + network_q + rest_q", "high_price")
    sums = ", ".join(SUMS)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE lines AS
        WITH said AS (
            SELECT hour, grid_zone, sum(g_q) FILTER (basis = '{average}' AND factors = '{factors}')
                    / nullif(sum(priced_q) FILTER (basis = '{average}'
                        AND factors = '{factors}'), 0) AS said,
                sum(marginal_g_q) / nullif(sum(marginal_priced_q), 0) AS marginal_said
            FROM borne GROUP BY hour, grid_zone
        ), joined AS (
            SELECT b.* REPLACE (coalesce(o.pue, b.pue) AS pue), o.pue IS NOT NULL AS other_pue,
                b.pue AS receipt_pue, a.g IS NOT NULL AS settled, a.g AS settled_price,
                b.basis = '{average}' AND b.factors = '{factors}' AS is_average,
                CASE WHEN b.basis = '{average}' AND b.factors = '{factors}' AND b.priced_q > 0
                    THEN b.g_q / b.priced_q WHEN b.it_q = 0 THEN s.said END / {GRAMS_PER_QUANTUM}
                    AS said_price,
                w.g AS written_price, a.low_g, a.high_g, g.gpu_share,
                coalesce(m.g, CASE WHEN b.basis = '{marginal}' AND b.priced_q > 0
                    THEN b.g_q / b.priced_q / {GRAMS_PER_QUANTUM}
                    WHEN b.marginal_priced_q > 0
                    THEN b.marginal_g_q / b.marginal_priced_q / {GRAMS_PER_QUANTUM}
                    WHEN b.it_q = 0 THEN s.marginal_said / {GRAMS_PER_QUANTUM} END)
                    AS marginal_price
            FROM borne b
            LEFT JOIN said s USING (hour, grid_zone)
            LEFT JOIN (SELECT * FROM price_rows WHERE basis = '{average}'
                AND factors = '{factors}') a USING (hour, grid_zone)
            LEFT JOIN (SELECT * FROM price_rows WHERE basis = '{marginal}') m
                USING (hour, grid_zone)
            LEFT JOIN said_rows w USING (hour, grid_zone)
            LEFT JOIN pue_rows o USING (region)
            LEFT JOIN gpu_rows g USING (profile)
        ), metered AS (
            SELECT *, CAST(round((it_q + idle_q + difference_q + gateway_q) * (pue - 1))
                    AS HUGEINT) AS overhead_q,
                CAST(round(it_q * (receipt_pue - 1)) AS HUGEINT) AS own_overhead_q,
                coalesce(settled_price, said_price, CASE WHEN it_q = 0 THEN written_price END)
                    AS price,
                -- As receipts have it: their own grams, to the last bit.
                NOT settled AND NOT other_pue AND is_average AND g_q > 0 AS as_receipted
            FROM joined
        ), totals AS (
            SELECT *, it_q + idle_q + difference_q + overhead_q + network_q + gateway_q
                    AS facility_q,
                idle_q + difference_q + gateway_q + overhead_q
                    - CAST(round(it_q * (pue - 1)) AS HUGEINT) AS rest_q,
                coalesce(low_g, price) AS low_price, coalesce(high_g, price) AS high_price
            FROM metered
        ), emitted AS (
            SELECT *, coalesce({grams("idle_q", "price")}, 0) AS idle_g,
                coalesce({grams("difference_q", "price")}, 0) AS difference_g,
                coalesce({grams("overhead_q", "price")}, 0) AS overhead_g,
                coalesce({grams("network_q", "price")}, 0) AS network_g,
                coalesce({grams("gateway_q", "price")}, 0) AS gateway_g,
                coalesce(CASE WHEN as_receipted
                    THEN g_q - {grams("own_overhead_q", "price")} - {grams("network_q", "price")}
                    ELSE {grams("it_q", "price")} END, 0) AS it_g
            FROM totals
        ), summed AS (
            SELECT *, {" + ".join(GRAM_PARTS)} AS operational_g FROM emitted
        )
        SELECT hour, {_KEYS}, price, low_price, high_price, marginal_price, settled, unmade_hours,
            {sums}
        FROM (
            SELECT *, operational_g + embodied_g AS total_g,
                CAST(floor(it_q * gpu_share) AS HUGEINT) AS gpu_q,
                CASE WHEN gpu_share IS NOT NULL THEN it_q ELSE 0 END AS gpu_known_q,
                CASE WHEN price IS NULL THEN facility_q
                    WHEN NOT as_receipted OR ungrammed = 0 THEN 0
                    ELSE greatest(it_q + own_overhead_q + network_q - priced_q, 0) END
                    AS unpriced_q,
                CASE WHEN settled THEN facility_q ELSE 0 END AS settled_q,
                CASE WHEN settled THEN operational_g ELSE 0 END AS settled_g,
                CASE WHEN settled AND is_average THEN g_q ELSE 0 END AS settled_receipted_g,
                coalesce(CASE WHEN as_receipted THEN low_g_q + {grams("rest_q", "price")}
                    ELSE {own_low} END, 0) + embodied_g AS low_total_g,
                coalesce(CASE WHEN as_receipted THEN high_g_q + {grams("rest_q", "price")}
                    ELSE {own_high} END, 0) + embodied_g AS high_total_g,
                coalesce({grams("facility_q", "marginal_price")}, 0) AS marginal_total_g,
                CASE WHEN marginal_price IS NULL THEN 0 ELSE facility_q END AS marginal_known_q
            FROM summed
        )
        """
    )

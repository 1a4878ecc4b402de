"""Requests, idle servers and gateways in one sum, which is what the meters say.

Of each endpoint and hour: ``total_j`` by its meter, or else by its profile; of that
``attributed_j`` to requests by their receipts, ``idle_j`` to nobody's; what is left is
``difference_j``, of either sign: how far receipts are from meters, told instead of hidden.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import duckdb

from router.ledger.reading import relation
from router.ledger.tables import ENERGY, RECEIPTS

_SQL: Final = """
with spans as (
    select date, hour, part, endpoint, max(region) as region, max(grid_zone) as grid_zone,
           sum(idle_s) as idle_s, sum(awake_s) as awake_s,
           coalesce(sum(idle_j), 0) as idle_j,
           sum(coalesce(metered_j, idle_j + awake_j, idle_j, awake_j)) as total_j,
           sum(case when metered_j is not null then 1 else 0 end) = count(*) as is_metered
    from energy group by date, hour, part, endpoint
), requests as (
    select date, hour, endpoint, max(region) as region, max(grid_zone) as grid_zone,
           sum(energy_j) as attributed_j
    from receipts where endpoint is not null group by date, hour, endpoint
), outside as (
    select distinct r.date, r.hour, r.endpoint
    from (select * from receipts where endpoint is not null and energy_j > 0) r
    asof left join (select endpoint, since, until from energy where part = 'endpoint') s
      on r.endpoint = s.endpoint and r.finished_at >= s.since
    where s.until is null or r.finished_at > s.until + interval 1 second
)
select coalesce(spans.date, requests.date) as date,
       coalesce(spans.hour, requests.hour) as hour,
       coalesce(part, 'endpoint') as part,
       coalesce(spans.endpoint, requests.endpoint) as endpoint,
       coalesce(spans.region, requests.region) as region,
       coalesce(spans.grid_zone, requests.grid_zone) as grid_zone,
       idle_s, awake_s, is_metered, total_j, idle_j,
       coalesce(attributed_j, 0) as attributed_j,
       case when part = 'gateway' then 0
            when outside.endpoint is not null then null
            else total_j - idle_j - coalesce(attributed_j, 0) end as difference_j
from spans full join requests
  on spans.part = 'endpoint' and spans.date = requests.date and spans.hour = requests.hour
     and spans.endpoint = requests.endpoint
left join outside
  on outside.date = requests.date and outside.hour = requests.hour
     and outside.endpoint = requests.endpoint
order by all
"""


def fleet_energy(
    connection: duckdb.DuckDBPyConnection, where: str | Path
) -> duckdb.DuckDBPyRelation:
    """IT joules by endpoint and hour, and of gateways (``part``). ``total_j`` and what follows from
    it is null where nobody measured a fleet in an hour of which there are receipts;
    ``difference_j`` also where a request ended outside of all spans: the process that looked was
    killed, and its last span with it.

    Raises DataError where the ledger cannot be read.
    """
    relation(connection, where, ENERGY).create_view("energy", replace=True)
    relation(connection, where, RECEIPTS).create_view("receipts", replace=True)
    return connection.sql(_SQL)

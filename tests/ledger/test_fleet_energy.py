"""Receipts, idle servers and gateways add up to what the meters say."""

import math
import random

import duckdb
import pytest

from router.lab.replay.replica import Ended, Replica
from router.ledger.columns import J_QUANTUM
from router.ledger.energy_spans import SpanGrid, gateway_cells
from router.ledger.fleet_energy import fleet_energy
from router.ledger.receipt_cells import in_steps
from router.ledger.sealed_files import Head, seal_rows
from router.ledger.tables import ENERGY, NUMBERING, RECEIPTS
from tests.factories import token_profile
from tests.ledger.rows import SEVEN_S

PER_J = 1.0 / J_QUANTUM


def cells(table, **values):
    names = [column.name for column in table.columns[len(NUMBERING) :]]
    assert values.keys() <= set(names)
    return tuple(values.get(name) for name in names)


def receipt(endpoint, energy_j, outcome="answered", at=SEVEN_S):
    return cells(
        RECEIPTS, finished_at=round(at * 1e6), outcome=outcome, attempt=1, client_retries=0,
        model="m", endpoint=endpoint, region="west", energy_j=energy_j,
    )  # fmt: skip


def span(endpoint, **values):
    times = {"since": round(SEVEN_S * 1e6), "until": round(SEVEN_S * 1e6)}
    return cells(ENERGY, **times, part="endpoint", endpoint=endpoint, region="west", **values)


def asked(root):
    rows = fleet_energy(duckdb.connect(), root)
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]


def simulated(seed):
    """(meter J, idle J, J of each request) of a replica over a busy and a quiet while."""
    rng = random.Random(seed)
    replica = Replica(token_profile(), 0.0)
    at_s, ended = 0.0, []
    for number in range(300):
        at_s += rng.expovariate(4.0 if number % 100 < 60 else 0.2)
        ended += replica.advance(at_s)
        replica.admit(at_s, number, rng.randint(1, 900), rng.randint(1, 400))
    ended += replica.advance(at_s + 600.0)
    replica.settle(at_s + 600.0)
    joules = [one.energy_j for one in ended if isinstance(one, Ended)]
    assert len(joules) == 300
    return replica.energy_j, replica.idle_energy_j, joules


def test_what_a_simulated_fleet_drew_is_receipts_and_idle_and_gateways(tmp_path) -> None:
    fleet = {f"e-{seed}": simulated(seed) for seed in range(3)}
    rows = [receipt(n, in_steps(j, PER_J)) for n, (_, _, all_j) in fleet.items() for j in all_j]
    spans = [
        span(name, idle_s=1.0, idle_j=idle_j, awake_s=1.0, awake_j=meter_j - idle_j)
        for name, (meter_j, idle_j, _) in fleet.items()
    ]
    gateway = gateway_cells(SEVEN_S, SEVEN_S, 20.0, 3.5, None, SpanGrid(math.nan, None))
    seal_rows(RECEIPTS, rows, tmp_path, "gw")
    seal_rows(ENERGY, [*spans, gateway], tmp_path, "gw")
    found = asked(tmp_path)
    meter_j = sum(one[0] for one in fleet.values())
    told_j = sum(row["attributed_j"] + row["idle_j"] for row in found)
    assert told_j == pytest.approx(meter_j, rel=1e-9)
    assert sum(row["total_j"] for row in found) == pytest.approx(meter_j + 70.0, rel=1e-12)
    for row in found:
        assert abs(row["difference_j"]) <= 1e-9 * row["total_j"]


def test_a_meter_counts_before_a_profile_and_what_is_left_is_told(tmp_path) -> None:
    rows = [receipt("a", 600.0), receipt("a", 50.0, "moved"), receipt("b", 10.0)]
    spans = [
        span("a", idle_s=9.0, idle_j=100.0, awake_s=3.0, awake_j=640.0, metered_j=800.0),
        span("b", idle_s=9.0, idle_j=5.0, awake_s=3.0, awake_j=12.0),
    ]
    seal_rows(RECEIPTS, rows, tmp_path, "gw")
    seal_rows(ENERGY, spans, tmp_path, "gw")
    a, b = asked(tmp_path)
    assert (a["total_j"], a["is_metered"], a["attributed_j"], a["idle_j"]) == (800, True, 650, 100)
    assert a["difference_j"] == 50.0
    assert (b["total_j"], b["is_metered"], b["difference_j"]) == (17.0, False, 2.0)


def test_an_hour_that_nobody_looked_at_has_no_total(tmp_path) -> None:
    _, link = seal_rows(RECEIPTS, [receipt("a", 600.0)], tmp_path, "gw")
    head = Head(link.link, link.hash, link.last_seq)
    seal_rows(RECEIPTS, [receipt(None, None, "refused")], tmp_path, "gw", head)
    (row,) = asked(tmp_path)
    assert (row["attributed_j"], row["total_j"], row["difference_j"]) == (600.0, None, None)


def test_a_server_of_which_no_watts_are_known_has_no_total(tmp_path):
    seal_rows(RECEIPTS, [receipt("a", 600.0)], tmp_path, "gw")
    seal_rows(ENERGY, [span("a", idle_s=1.0, awake_s=1.0)], tmp_path, "gw")
    (row,) = asked(tmp_path)
    assert row["total_j"] is None
    assert row["difference_j"] is None


def test_requests_in_a_span_that_was_lost_are_no_difference(tmp_path):
    seal_rows(RECEIPTS, [receipt("a", 600.0, at=SEVEN_S + 90.0)], tmp_path, "gw")
    seal_rows(ENERGY, [span("a", idle_s=1.0, idle_j=9.0, awake_s=0.0, awake_j=0.0)], tmp_path, "gw")
    (row,) = asked(tmp_path)
    assert (row["attributed_j"], row["idle_j"], row["difference_j"]) == (600.0, 9.0, None)

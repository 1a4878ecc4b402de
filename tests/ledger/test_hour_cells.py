import math
from datetime import UTC, datetime
from fractions import Fraction

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.ledger.hour_cells import build_cells
from router.ledger.month import US_PER_HOUR, Month
from router.ledger.quantities import J_QUANTA
from router.ledger.tables import RECEIPTS
from tests.ledger.receipts import receipts

MONTH = Month(2026, 11)
START_US = round(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1e6)


CONNECTION = duckdb.connect()
BASE = receipts(8).to_pydict()


def cells_of(table, columns, month=MONTH, dimensions=(), order="hour"):
    connection = CONNECTION
    connection.register("rows", table)
    connection.execute(
        "CREATE OR REPLACE VIEW receipts AS SELECT *, CAST(finished_at AS DATE) AS date FROM rows"
    )
    build_cells(connection, month, dimensions)
    return connection.execute(f"SELECT {columns} FROM cells ORDER BY {order}").fetchall()


def rows_of(**given):
    """Rows of so many cells; the others are null, or the first row's of any ledger."""
    count = len(next(iter(given.values())))
    base = {
        name: [None] * count if RECEIPTS.schema.field(name).nullable else values[:count]
        for name, values in BASE.items()
    }
    base.update(given)
    base["outcome"] = given.get("outcome", ["answered"] * count)
    arrays = []
    for field in RECEIPTS.schema:
        if pa.types.is_dictionary(field.type):
            arrays.append(pa.array(base[field.name], pa.string()).dictionary_encode())
        elif pa.types.is_timestamp(field.type):
            arrays.append(pa.array(base[field.name]).cast(field.type))
        else:
            arrays.append(pa.array(base[field.name], field.type))
    return pa.Table.from_arrays(arrays, schema=RECEIPTS.schema)


def at(hours):
    return START_US + round(hours * US_PER_HOUR)


def test_a_run_within_an_hour_is_of_that_hour():
    table = rows_of(finished_at=[at(1.5)], run_s=[60.0], energy_j=[100.0], gco2e=[0.5])
    assert cells_of(table, "hour, rows, it_q, g_q") == [
        (MONTH.first_hour + 1, 1, 100 * J_QUANTA, 2**23)
    ]


def test_a_run_that_ends_with_the_hour_is_of_the_hour_before():
    table = rows_of(finished_at=[at(2.0)], run_s=[60.0], energy_j=[100.0])
    assert cells_of(table, "hour, it_q") == [(MONTH.first_hour + 1, 100 * J_QUANTA)]


def test_what_took_no_time_is_of_the_hour_that_begins():
    table = rows_of(finished_at=[at(2.0)], run_s=[0.0], energy_j=[100.0])
    assert cells_of(table, "hour, it_q") == [(MONTH.first_hour + 2, 100 * J_QUANTA)]


def test_a_run_over_hours_is_shared_by_time_and_counts_where_it_ended():
    table = rows_of(
        finished_at=[at(3.25)], run_s=[1.5 * 3600], energy_j=[600.0], output_tokens=[70]
    )
    quarter = 100 * J_QUANTA
    assert cells_of(table, "hour - (SELECT min(hour) FROM cells), rows, it_q, output_tokens") == [
        (0, 0, quarter, 0),
        (1, 0, 4 * quarter, 0),
        (2, 1, quarter, 70),
    ]


def test_a_run_into_the_month_counts_for_what_lies_in_it():
    table = rows_of(finished_at=[at(0.5)], run_s=[3600.0], energy_j=[100.0])
    assert cells_of(table, "hour, rows, it_q") == [(MONTH.first_hour, 1, 50 * J_QUANTA)]
    october = cells_of(table, "hour, rows, it_q", Month(2026, 10))
    assert october == [(MONTH.first_hour - 1, 0, 50 * J_QUANTA)]


def test_what_is_not_known_is_counted_and_is_no_zero():
    table = rows_of(
        finished_at=[at(1.1), at(1.2), at(1.3), at(1.4)],
        run_s=[1.0, None, 1.0, None],
        energy_j=[None, 5.0, 5.0, None],
        gco2e=[None, 1.0, None, None],
        outcome=["answered", "answered", "cancelled", "refused"],
    )
    columns = "sum(unmetered), sum(ungrammed), sum(untimed), sum(refused), sum(cancelled_q)"
    assert cells_of(table, columns, order="1") == [(1, 1, 1, 1, 5 * J_QUANTA)]


def test_tokens_are_of_answers():
    table = rows_of(
        finished_at=[at(1.1), at(1.2), at(1.3)],
        output_tokens=[10, 20, 40],
        tokens_kind=["reported", "estimated", "reported"],
        outcome=["answered", "answered", "moved"],
    )
    assert cells_of(table, "sum(output_tokens), sum(estimated_tokens), sum(moved)", order="1") == [
        (30, 20, 1)
    ]


def test_predictions_are_summed_where_both_are_known():
    table = rows_of(
        finished_at=[at(1.1), at(1.2)],
        predicted_gco2e=[0.5, 0.5],
        latency_first_gco2e=[1.0, None],
    )
    assert cells_of(table, "sum(predicted_q), sum(latency_first_q)", order="1") == [(2**23, 2**24)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 40.0), st.floats(0.0, 30.0), st.integers(0, 2**45), st.integers(0, 2**40)
        ),
        min_size=1,
        max_size=8,
    )
)
@example([(0.0, 10.025341067599136, 61203240288, 0)])
def test_shares_of_hours_add_up_to_the_whole_and_are_by_time(runs):
    ends = [at(40.0 + end) for end, _, _, _ in runs]
    spans = [np.float32(span * 3600.0).item() for _, span, _, _ in runs]
    table = rows_of(
        finished_at=ends,
        run_s=spans,
        energy_j=[quanta / J_QUANTA for _, _, quanta, _ in runs],
        gco2e=[quanta / 2**24 for _, _, _, quanta in runs],
    )
    found = cells_of(table, "hour, it_q, g_q")
    assert sum(row[1] for row in found) == sum(quanta for _, _, quanta, _ in runs)
    assert sum(row[2] for row in found) == sum(quanta for _, _, _, quanta in runs)
    for hour, joules, _ in found:
        expected = Fraction(0)
        for end, span, (_, _, quanta, _) in zip(ends, spans, runs, strict=True):
            # Halves up, as DuckDB rounds them.
            run = math.floor(span * 1e6 + 0.5)
            low, high = max(end - run, hour * US_PER_HOUR), min(end, (hour + 1) * US_PER_HOUR)
            if run == 0:
                expected += quanta * (end // US_PER_HOUR == hour)
            elif high > low:
                expected += Fraction(quanta * (high - low), run)
        assert abs(joules - expected) <= len(runs)


@pytest.mark.parametrize("threads", [1, 2])
def test_sums_do_not_depend_on_order_or_threads(threads):
    CONNECTION.execute(f"SET threads = {threads}")
    table = receipts(3_000, hours=6.0)
    mixed = table.take(pa.array(np.random.default_rng(7).permutation(table.num_rows)))
    assert cells_of(table, "*", dimensions=("model", "tenant"), order="ALL") == cells_of(
        mixed, "*", dimensions=("model", "tenant"), order="ALL"
    )

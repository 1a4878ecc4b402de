import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from router.errors import DataError
from router.ledger.links import ChainLink, Gap, GapReason
from router.ledger.lost_rows import LostRows, lost_rows, told_gaps, with_reasons
from router.ledger.month import Month
from tests.ledger.receipts import receipts

MONTH = Month(2026, 11)


def lost(table, month=MONTH):
    connection = duckdb.connect()
    connection.register("rows", table)
    connection.execute(
        "CREATE VIEW receipts AS SELECT *, CAST(finished_at AS DATE) AS date FROM rows"
    )
    return lost_rows(connection, month)


@pytest.fixture(scope="module")
def table():
    return receipts(500, hours=72.0)


def test_whole_sequences_have_lost_nothing(table):
    assert lost(table) == []


def test_a_lost_hour_is_told_with_its_neighbours(table):
    seq = table.column("seq")
    left = table.filter(pc.or_(pc.less(seq, 100), pc.greater(seq, 120)))
    (gap,) = lost(left)
    ends = table.column("finished_at").cast(pa.int64()).to_pylist()
    assert (gap.writer, gap.first, gap.last, gap.rows) == ("gw-1", 100, 120, 21)
    assert (gap.since_us, gap.until_us) == (ends[98], ends[120])


def test_every_writer_has_numbers_of_its_own(table):
    other = table.set_column(
        0, table.schema.field("writer"), pa.array(["gw-2"] * table.num_rows).dictionary_encode()
    )
    assert lost(pa.concat_tables([table, other])) == []


def test_a_number_that_is_there_twice_is_an_error(table):
    with pytest.raises(DataError, match=r"gw-1 numbered two rows 10: .*ledger verify"):
        lost(pa.concat_tables([table, table.slice(9, 1)]))


def test_a_loss_in_another_month_is_not_told(table):
    left = table.filter(pc.not_equal(table.column("seq"), 100))
    assert lost(left, Month(2026, 12)) == []


def test_rows_of_no_writer_are_of_no_ledger(table):
    names = pa.array([None] * table.num_rows, pa.string()).dictionary_encode()
    schema = table.schema.set(0, table.schema.field(0).with_nullable(True))
    odd = table.cast(schema).set_column(0, schema.field(0), names)
    with pytest.raises(DataError, match="no ledger wrote"):
        lost(odd)


def gap(first, last, since=1_793_500_000.0):
    one = Gap(GapReason.KILLED, first, last, since, since + 5.0)
    return ChainLink("receipts", "gw-1", 1, last + 1, last + 9, 9, "", "", (one,))


def test_writers_say_what_they_lost_also_before_their_first_row():
    (one,) = told_gaps([gap(1, 7)], MONTH)
    assert (one.writer, one.first, one.last, one.reason) == ("gw-1", 1, 7, "killed")
    assert one.until_us - one.since_us == 5_000_000
    assert told_gaps([gap(1, 7)], Month(2026, 12)) == []


def test_a_loss_is_told_once_with_its_reason_where_there_is_one():
    missing = [LostRows("gw-1", 10, 30, 1, 9), LostRows("gw-2", 10, 12, 1, 9)]
    told = [
        LostRows("gw-1", 12, 15, 2, 3, "killed"),
        LostRows("gw-1", 20, 30, 4, 5, "queue_full"),
        LostRows("gw-1", 50, 60, 6, 7, "killed"),
    ]
    found = with_reasons(missing, told)
    assert [(one.writer[-1], one.first, one.last, one.reason) for one in found] == [
        ("1", 10, 11, ""), ("1", 12, 15, "killed"), ("1", 16, 19, ""),
        ("1", 20, 30, "queue_full"), ("1", 50, 60, "killed"), ("2", 10, 12, ""),
    ]  # fmt: skip

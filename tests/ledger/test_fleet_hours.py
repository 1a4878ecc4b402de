from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from router.ledger.fleet_hours import fill_fleet
from router.ledger.hour_cells import KEYS
from router.ledger.month import US_PER_HOUR, Month
from router.ledger.priced_cells import make_inputs
from router.ledger.quantities import J_QUANTA
from router.model import Factors

MONTH = Month(2026, 11)
COLUMNS = (
    "since TIMESTAMPTZ, until TIMESTAMPTZ, part VARCHAR, endpoint VARCHAR, region VARCHAR, "
    "grid_zone VARCHAR, "
    "idle_s DOUBLE, idle_j DOUBLE, awake_s DOUBLE, awake_j DOUBLE, metered_j DOUBLE, pue DOUBLE, "
    "g_per_kwh DOUBLE, basis VARCHAR, factors VARCHAR, date DATE"
)


class Fleet:
    """Rows of the ledger's energy, and what requests took of it."""

    def __init__(self):
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute(f"CREATE TABLE energy ({COLUMNS})")
        self.connection.execute(
            "CREATE TABLE receipts (finished_at TIMESTAMPTZ, endpoint VARCHAR, energy_j DOUBLE, "
            "date DATE)"
        )
        keys = ", ".join(f"{key} VARCHAR" for key in KEYS)
        self.connection.execute(f"CREATE TABLE cells (hour BIGINT, {keys}, it_q HUGEINT)")
        make_inputs(self.connection)

    def span(self, hour=0.0, part="endpoint", endpoint="e", idle_j=10.0, awake_j=90.0,
             metered_j=None, zone="W", g=100.0, awake_s=1.0):  # fmt: skip
        since = datetime.fromtimestamp((MONTH.first_hour + hour) * 3600.0, UTC)
        until = since + timedelta(minutes=30)
        row = (since, until, part, endpoint, "west", zone, 1.0, idle_j, awake_s, awake_j,
               metered_j, 1.2, g, "average", "lifecycle", since.date())  # fmt: skip
        self.connection.execute(f"INSERT INTO energy VALUES ({', '.join('?' * len(row))})", row)
        return self

    def requests(self, joules, hour=0, endpoint="e", at=0.25):
        """``at``: hours after the full one, when the last of them ended."""
        ended = datetime.fromtimestamp((MONTH.first_hour + hour + at) * 3600.0, UTC)
        self.connection.execute(
            "INSERT INTO receipts VALUES (?, ?, ?, ?)", (ended, endpoint, joules, ended.date())
        )
        self.connection.execute(
            "INSERT INTO cells (hour, endpoint, it_q) VALUES (?, ?, ?)",
            (MONTH.first_hour + hour, endpoint, round(joules * J_QUANTA)),
        )
        return self

    def told(self, columns, table="idle_rows"):
        fill_fleet(self.connection, MONTH, Factors.LIFECYCLE)
        return self.connection.execute(f"SELECT {columns} FROM {table} ORDER BY ALL").fetchall()


JOULES = f"idle_q / {J_QUANTA}, difference_q / {J_QUANTA}"


def test_what_a_profile_says_beyond_requests_is_the_difference():
    fleet = Fleet().span().span(hour=0.5).requests(150.0)
    assert fleet.told(f"hour, endpoint, grid_zone, pue, {JOULES}") == [
        (MONTH.first_hour, "e", "W", 1.2, 20.0, 30.0)
    ]


def test_a_meter_counts_before_a_profile_and_a_difference_may_be_negative():
    fleet = Fleet().span(metered_j=120.0).span(hour=0.5).requests(230.0)
    assert fleet.told(JOULES) == [(20.0, 120.0 + 100.0 - 20.0 - 230.0)]


def test_idle_requests_and_difference_are_what_meters_say():
    fleet = Fleet().requests(77.0, 1).requests(3.0, 2)
    for hour, metered in ((1.1, 60.0), (1.6, 30.0), (2.0, 12.0), (3.5, 11.0)):
        fleet.span(hour, metered_j=metered, idle_j=8.0)
    fleet.connection.execute("SELECT 1")
    ((idle, difference),) = fleet.told("sum(idle_q), sum(difference_q)")
    ((requests,),) = fleet.connection.execute("SELECT sum(it_q) FROM cells").fetchall()
    assert idle + difference + requests == round((60.0 + 30.0 + 12.0 + 11.0) * J_QUANTA)


def test_without_meter_and_profile_there_is_no_difference():
    fleet = Fleet().span(idle_j=None, awake_j=None).requests(50.0)
    assert fleet.told(JOULES) == [(0.0, 0.0)]


def test_requests_outside_of_all_spans_make_no_difference_of_less_than_nothing():
    # The span that they were in went with a process that was killed.
    for at in (0.25, 0.85):
        fleet = Fleet().span(hour=0.3, idle_j=10.0, awake_j=0.0).requests(150.0, at=at)
        fleet.requests(5.0, at=0.4).requests(5.0, hour=1, at=0.4).span(hour=1.3, awake_j=7.0)
        assert fleet.told(f"hour - {MONTH.first_hour}, {JOULES}") == [
            (0, 10.0, 0.0),
            (1, 10.0, 2.0),
        ]
    late = Fleet().span(hour=0.0).requests(50.0, at=0.5 + 0.9 / 3600.0)
    assert late.told(JOULES) == [(10.0, 40.0)]


def test_gateways_are_told_apart_from_endpoints():
    fleet = Fleet().span(part="gateway", endpoint=None, idle_j=None, awake_j=5.0, zone="H")
    assert fleet.told(f"grid_zone, gateway_q / {J_QUANTA}", "gateway_rows") == [("H", 5.0)]
    assert fleet.connection.execute("SELECT count(*) FROM idle_rows").fetchone() == (0,)


def test_intensities_of_hours_are_means_of_their_spans():
    fleet = Fleet().span(g=100.0).span(hour=0.5, g=200.0).span(hour=1.0, g=None)
    assert fleet.told("grid_zone, hour, g", "said_rows") == [("W", MONTH.first_hour, 150.0)]


@pytest.mark.parametrize("hour", [-1.0, MONTH.hours])
def test_other_months_are_left_out(hour):
    assert Fleet().span(hour).told("hour") == []


def test_hours_are_of_utc():
    assert MONTH.first_hour * US_PER_HOUR == 1_793_491_200_000_000

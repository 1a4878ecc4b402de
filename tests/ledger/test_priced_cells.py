"""Cells are given as rows of few columns; those that are not given are nothing."""

import duckdb
import pytest

from router.ledger.hour_cells import KEYS, MEASURES
from router.ledger.priced_cells import ENERGY_PARTS, GRAM_PARTS, make_inputs, price_cells
from router.ledger.quantities import G_QUANTA, J_QUANTA
from router.model import Factors
from router.units import J_PER_KWH

KWH = round(J_PER_KWH) * J_QUANTA
GRAM = G_QUANTA


class Books:
    """Cells and inputs of one test."""

    def __init__(self):
        self.connection = duckdb.connect()
        keys = ", ".join(f"{k} {'DOUBLE' if k == 'pue' else 'VARCHAR'}" for k in KEYS)
        sums = ", ".join(f"{name} HUGEINT" for name in MEASURES)
        self.connection.execute(f"CREATE TABLE cells (hour BIGINT, {keys}, {sums})")
        make_inputs(self.connection)

    def cell(self, hour=1, g=100.0, kwh=1.0, **given):
        """One with ``kwh`` of IT energy at ``g`` g/kWh."""
        pue, network = given.get("pue", 1.0), given.get("network_kwh", 0.0)
        facility = kwh * pue + network
        row = dict.fromkeys(MEASURES, 0) | {
            "model": "m", "tenant": "", "region": "west", "grid_zone": "W", "endpoint": "e",
            "profile": "p", "energy_kind": "measured", "basis": "average", "factors": "lifecycle",
            "pue": pue, "rows": 1, "it_q": round(kwh * KWH), "network_q": round(network * KWH),
            "g_q": round(facility * g * GRAM), "priced_q": round(facility * KWH),
            "low_q": round(kwh * KWH), "high_q": round(2 * kwh * KWH),
        }  # fmt: skip
        row |= {name: value for name, value in given.items() if name in row}
        values = [hour, *(row[name] for name in (*KEYS, *MEASURES))]
        marks = ", ".join("?" * len(values))
        self.connection.execute(f"INSERT INTO cells VALUES ({marks})", values)
        return self

    def add(self, table, *values):
        marks = ", ".join("?" * len(values))
        self.connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)
        return self

    def price(self, g, low=None, high=None, hour=1, zone="W", basis="average", factors="lifecycle"):
        return self.add(
            "price_rows", zone, hour, basis, factors, g, low or g, high or g, "measured", "o", 1, 0
        )

    def lines(self, columns, order="hour, model"):
        price_cells(self.connection, Factors.LIFECYCLE)
        return self.connection.execute(f"SELECT {columns} FROM lines ORDER BY {order}").fetchall()


def g(value):
    return round(value * GRAM)


def test_without_a_price_grams_are_those_of_receipts_to_the_last_bit():
    books = Books().cell(pue=1.25, network_kwh=0.001, g=333.33)
    ((operational, said, settled, unpriced),) = books.lines(
        "operational_g, g_q, settled_q, unpriced_q"
    )
    assert operational == said
    assert (settled, unpriced) == (0, 0)


def test_a_price_settles_and_what_receipts_said_stays():
    books = Books().cell(pue=1.5).price(80.0, 70.0, 90.0)
    columns = "operational_g, settled_g, g_q, settled_q = facility_q, low_total_g, high_total_g"
    assert books.lines(columns) == [
        (g(120), g(120), g(150), True, g(1.5 * 70), g(3 * 90)),
    ]


def test_components_add_up_to_the_total_exactly():
    books = Books().cell(pue=1.137, network_kwh=0.0137).price(77.7)
    books.add("idle_rows", 1, "e", "west", "W", 1.137, KWH // 3, -KWH // 7)
    books.add("gateway_rows", 1, "west", "W", 1.137, KWH // 11)
    books.add("embodied_rows", "p", 33.3)
    parts = f"sum({' + '.join(ENERGY_PARTS)}), sum(facility_q)"
    grams = f"sum({' + '.join(GRAM_PARTS)} + embodied_g), sum(total_g)"
    energy, facility, emitted, total = books.lines(f"{parts}, {grams}", "1")[0]
    assert energy == facility
    assert emitted == total
    whole = 1.137 * (1 + 1 / 3 - 1 / 7 + 1 / 11) + 0.0137
    assert facility / KWH == pytest.approx(whole, rel=1e-12)
    assert total / GRAM == pytest.approx(whole * 77.7 + 33.3, rel=1e-9)


def test_idle_is_borne_by_users_of_the_hour_by_their_energy():
    books = Books().cell(model="a", kwh=1.0).cell(model="b", kwh=3.0)
    books.add("idle_rows", 1, "e", "west", "W", 1.0, 401, 0)
    assert books.lines("model, idle_q") == [("a", 100), ("b", 301)]


def test_idle_of_an_hour_without_users_is_borne_by_those_of_the_month():
    books = Books().cell(model="a", kwh=1.0).cell(model="b", kwh=3.0)
    books.add("idle_rows", 2, "e", "west", "W", 1.0, 400, 0)
    assert books.lines("hour, model, idle_q") == [
        (1, "a", 0), (1, "b", 0), (2, "a", 100), (2, "b", 300),
    ]  # fmt: skip


def test_idle_that_nobody_used_all_month_is_nobodys_and_counts():
    books = Books().cell()
    books.add("idle_rows", 1, "spare", "east", "E", 1.2, 1000, 0).price(50.0, zone="E")
    assert books.lines("model, grid_zone, idle_q, overhead_q, settled_q") == [
        ("", "E", 1000, 200, 1200), ("m", "W", 0, 0, 0),
    ]  # fmt: skip


def test_idle_has_the_hours_mean_intensity_where_there_is_no_price():
    books = Books().cell(g=100.0, kwh=1.0, endpoint="e").cell(g=200.0, kwh=3.0, endpoint="f")
    books.add("idle_rows", 1, "spare", "west", "W", 1.0, KWH, 0)
    found = books.lines("endpoint, idle_g", "endpoint")
    assert found == [("e", 0), ("f", 0), ("spare", g(175))]


def test_embodied_is_for_each_hour_that_an_endpoint_is_held():
    books = Books().cell(hour=1).cell(hour=3).add("embodied_rows", "p", 40.0)
    books.add("idle_rows", 2, "e", "west", "W", 1.0, 10, 0)
    assert books.lines("hour, embodied_g") == [(1, g(40)), (2, g(40)), (3, g(40))]


def test_hardware_without_a_figure_is_counted_and_is_no_zero():
    books = Books().cell(profile="other").add("embodied_rows", "p", 40.0)
    assert books.lines("embodied_g, unmade_hours") == [(0, 1)]


def test_gateways_are_borne_by_requests_and_priced_where_they_stand():
    books = Books().cell(model="a", rows=1).cell(model="b", rows=3)
    books.add("gateway_rows", 1, "hub", "H", 1.0, KWH).price(10.0, zone="H")
    found = books.lines("model, gateway_q, gateway_g", "model, gateway_q DESC LIMIT 3")
    assert found[0] == ("a", KWH // 4, g(2.5))
    assert found[2] == ("b", 3 * KWH // 4, g(7.5))


def test_what_has_no_intensity_has_no_grams_and_is_counted():
    books = Books().cell(g_q=0, priced_q=0, ungrammed=1)
    assert books.lines("operational_g, unpriced_q = facility_q") == [(0, True)]


def test_rows_without_grams_among_others_are_counted():
    books = Books().cell(kwh=3.0, g_q=g(200), priced_q=2 * KWH, ungrammed=1)
    assert books.lines("operational_g, unpriced_q") == [(g(200), KWH)]


def test_receipts_of_a_marginal_basis_are_no_location_based_grams():
    books = Books().cell(basis="marginal", factors="none", g=500.0)
    columns = "operational_g, unpriced_q = facility_q, marginal_total_g"
    assert books.lines(columns) == [(0, True, g(500))]
    assert books.price(90.0).lines(columns) == [(g(90), False, g(500))]


def test_marginal_stands_beside_and_is_settled_by_its_own_price():
    books = Books().cell(marginal_g_q=g(150), marginal_priced_q=KWH)
    assert books.lines("operational_g, marginal_total_g") == [(g(100), g(150))]
    books.price(180.0, basis="marginal", factors="none")
    assert books.lines("operational_g, marginal_total_g") == [(g(100), g(180))]


def test_pue_of_the_month_replaces_that_of_receipts():
    books = Books().cell(pue=1.5).add("pue_rows", "west", 1.2)
    columns = "overhead_q, operational_g, g_q"
    assert books.lines(columns) == [(round(0.2 * KWH), g(120), g(150))]


def test_gpus_are_told_from_hosts_where_the_profile_says_so():
    books = Books().cell(profile="p").cell(profile="q", model="n").add("gpu_rows", "p", 0.75)
    assert books.lines("gpu_q, gpu_known_q") == [(KWH * 3 // 4, KWH), (None, 0)]

from datetime import UTC, datetime

import pytest

from router.errors import DataError
from router.ledger.prices import price_files, read_prices
from router.model import Basis, Factors, Kind, Signal
from router.operator.settling.intensity_files import FileTerms
from router.operator.settling.settle import SettlementQuestion, settle_ledger, used_hours
from tests.ledger.receipts import ledger_of, receipts
from tests.operator.reporting.conftest import wide_csv

TERMS = FileTerms(Signal(Basis.AVERAGE, Factors.LIFECYCLE), Kind.MEASURED)
START = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
HOURS = 6


@pytest.fixture
def ledger(tmp_path):
    return ledger_of(receipts(600, hours=HOURS), tmp_path / "ledger")


def settle_with(ledger, text, at=START + HOURS * 3600.0, **given):
    file = ledger.parent / "grid.csv"
    file.write_text(text)
    return settle_ledger(SettlementQuestion(ledger, (file,), TERMS, at, **given))


def test_every_hour_of_every_zone_with_receipts_is_priced(ledger):
    result = settle_with(ledger, wide_csv(HOURS))
    assert len(result.settlement.added) == 3 * HOURS
    assert result.file == "prices/000001.parquet"
    assert {price.revision for price in read_prices(ledger).values()} == {1}
    # A run that began in October.
    assert sum(result.open_hours.values()) <= 3


def test_settling_twice_adds_nothing_and_a_revision_adds_itself(ledger):
    settle_with(ledger, wide_csv(HOURS))
    again = settle_with(ledger, wide_csv(HOURS))
    assert (again.file, again.settlement.unchanged) == (None, 3 * HOURS)
    revised = wide_csv(HOURS).replace("2026-11-01T03:00Z,203.0", "2026-11-01T03:00Z,190.0")
    third = settle_with(ledger, revised)
    assert [(one.revision, one.measured.g_per_kwh) for one in third.settlement.added] == [(2, 190)]
    assert len(price_files(ledger)) == 2


def test_hours_come_late_and_are_settled_then(ledger):
    first = settle_with(ledger, wide_csv(2))
    assert sum(first.open_hours.values()) >= 3 * (HOURS - 2)
    later = settle_with(ledger, wide_csv(HOURS), at=START + 29 * 86_400.0)
    assert len(later.settlement.added) == 3 * (HOURS - 2)
    assert settle_with(ledger, wide_csv(HOURS), at=START + 32 * 86_400.0).file is None


def test_a_zone_that_was_renamed_is_found_under_its_new_name(ledger):
    text = wide_csv(HOURS).replace("SE", "SE-NEW")
    result = settle_with(ledger, text, renamed={"SE": "SE-NEW"})
    known = read_prices(ledger)
    assert {key.grid_zone for key in known} == {"US-CAL-CISO", "US-MIDA-PJM", "SE"}
    source = next(one for key, one in known.items() if key.grid_zone == "SE").measured.source
    assert source == "grid.csv, as SE-NEW"
    assert result.settlement.elsewhere == HOURS


@pytest.mark.parametrize(
    ("renamed", "why"),
    [({"XX": "SE"}, "no receipt is of XX"), ({"SE": "XX"}, "no file has XX")],
)
def test_names_that_are_nowhere_are_told(ledger, renamed, why):
    with pytest.raises(DataError, match=why):
        settle_with(ledger, wide_csv(HOURS), renamed=renamed)
    assert price_files(ledger) == []


def test_files_of_other_zones_alone_are_an_error(ledger):
    text = "datetime,US-TEX-ERCO\n2026-11-01T00:00Z,300\n2026-11-01T01:00Z,301\n"
    with pytest.raises(DataError, match=r"receipts are of SE, US-CAL-CISO, US-MIDA-PJM"):
        settle_with(ledger, text)


def test_two_files_that_differ_add_nothing(ledger):
    files = []
    for name, g in (("a.csv", 300), ("b.csv", 301)):
        files.append(ledger.parent / name)
        files[-1].write_text(f"datetime,SE\n2026-11-01T00:00Z,{g}\n2026-11-01T01:00Z,{g}\n")
    question = SettlementQuestion(ledger, tuple(files), TERMS, START + HOURS * 3600.0)
    with pytest.raises(DataError, match="two values"):
        settle_ledger(question)
    assert price_files(ledger) == []


def test_hours_of_long_runs_are_used_hours(tmp_path):
    ledger = ledger_of(receipts(200, hours=2.0, longest_s=90_000.0), tmp_path / "long")
    used = used_hours(ledger, START + 3 * 3600.0)
    assert max(used["SE"]) == round(START // 3600) + 1
    assert len(used["SE"]) > 4


def test_the_same_question_is_the_same_bytes(tmp_path):
    bodies = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ledger = ledger_of(receipts(300, hours=2.0), tmp_path / name / "ledger")
        bodies.append((ledger / settle_with(ledger, wide_csv(2)).file).read_bytes())
    assert bodies[0] == bodies[1]


def test_a_ledger_behind_a_url_is_settled_alike(ledger):
    file = ledger.parent / "grid.csv"
    file.write_text(wide_csv(HOURS))
    at = START + HOURS * 3600.0
    result = settle_ledger(SettlementQuestion(f"file://{ledger}", (file,), TERMS, at))
    assert result.file == "prices/000001.parquet"
    assert len(read_prices(ledger)) == 3 * HOURS

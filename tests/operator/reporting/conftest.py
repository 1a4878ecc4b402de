"""A ledger of two days, once for all tests that only read it."""

from functools import cache

import pytest

from router.ledger.month import Month
from router.operator.reporting.gather import Per, ReportQuestion, gather
from tests.ledger.receipts import add_energy, ledger_of, receipts

HOURS = 48
ROWS = 100_000


@pytest.fixture(scope="session")
def ledger(tmp_path_factory):
    """Runs of up to three hours; a few rows without energy; nothing is priced."""
    root = tmp_path_factory.mktemp("books") / "ledger"
    return ledger_of(receipts(ROWS, hours=HOURS, longest_s=6000.0), root)


@pytest.fixture(scope="session")
def settled(tmp_path_factory):
    """The same rows and prices of all zones and all hours but the last."""
    from router.model import Basis, Factors, Kind, Signal
    from router.operator.settling.intensity_files import FileTerms
    from router.operator.settling.settle import SettlementQuestion, settle_ledger

    root = tmp_path_factory.mktemp("settled") / "ledger"
    ledger_of(receipts(20_000, hours=HOURS, longest_s=6000.0), root)
    file = root.parent / "intensities.csv"
    file.write_text(wide_csv(HOURS - 1))
    signal = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
    now = 1_793_491_200.0 + HOURS * 3600.0
    settle_ledger(SettlementQuestion(root, (file,), FileTerms(signal, Kind.MEASURED), now=now))
    return root


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """With what the fleet drew beside requests, and runs that stay within their hours."""
    root = tmp_path_factory.mktemp("whole") / "ledger"
    rows = receipts(3_000, hours=6.0, longest_s=0.5)
    return add_energy(ledger_of(rows, root), rows, 6)


@cache
def reported(root, per=Per.MODEL):
    """The report of November, made once."""
    return gather(ReportQuestion(root, Month(2026, 11), per=per))


def price_of(zone, hour):
    """g/kWh of the hour-th hour of November."""
    return {"US-CAL-CISO": 200.0, "US-MIDA-PJM": 420.0, "SE": 25.0}[zone] + hour % 24


def wide_csv(hours):
    zones = ("US-CAL-CISO", "US-MIDA-PJM", "SE")
    lines = ["datetime," + ",".join(zones)]
    for hour in range(hours):
        cells = ",".join(str(price_of(zone, hour)) for zone in zones)
        lines.append(f"2026-11-{1 + hour // 24:02d}T{hour % 24:02d}:00Z,{cells}")
    return "\n".join(lines) + "\n"

import pytest

from router.ledger.quantities import CarbonMass, EnergyAmount
from router.operator.reporting.page.figures import (
    UNKNOWN,
    count_text,
    energy_text,
    grams_text,
    kwh_text,
    mass_text,
    share_text,
)


@pytest.mark.parametrize(
    ("grams", "text"),
    [(0.0, "0 g"), (1234.5, "1.23 kg"), (12.34, "12.3 g"), (0.00123, "1.23 mg"), (5e6, "5.00 t"),
     (4.2e-7, "0.42 µg"), (-3.0, "-3.00 g"), (float("nan"), UNKNOWN), (None, UNKNOWN)],
)  # fmt: skip
def test_grams(grams, text):
    assert grams_text(grams).replace("\u00a0", " ") == text


def test_energy_and_mass_know_their_units():
    assert energy_text(EnergyAmount.of_wh(0.24)) == "0.24\u00a0Wh"
    assert kwh_text(1500.0) == "1.50\u00a0MWh"
    assert mass_text(CarbonMass.of_kg(2)) == "2.00\u00a0kg"
    assert energy_text(None) == mass_text(None) == kwh_text(None) == UNKNOWN


def test_counts_and_shares():
    assert count_text(1234567) == "1,234,567"
    assert count_text(None) == UNKNOWN
    assert share_text(1, 8) == "12.5\u00a0%"
    assert share_text(0, 8) == "0.0\u00a0%"
    assert share_text(46, 100_000) == "0.046\u00a0%"
    assert share_text(1, 0) == UNKNOWN

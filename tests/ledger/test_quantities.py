from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.ledger.quantities import (
    CarbonMass,
    CarbonPerUnit,
    EnergyAmount,
    FunctionalUnit,
)

MILLION, BILLION = 10**6, 10**9


def test_a_published_token_score_was_a_thousand_times_off() -> None:
    # SCI for AI, example of a language model: 5,000 kg and 1,500 kg over 50 billion tokens, printed
    # as 0.13 g for a million tokens.
    emitted = CarbonMass.of_kg(5_000) + CarbonMass.of_kg(1_500)
    score = emitted.per(50 * BILLION, FunctionalUnit.TOKEN)
    assert score is not None
    assert score.g_per(MILLION) == 130.0
    assert score.g_per(MILLION) / 0.13 == pytest.approx(1_000.0)


def test_a_published_parameter_score_was_printed_three_ways() -> None:
    # The same, computer vision: 75,000 kg over 2.5 billion parameters, printed as 30 and, in a
    # later draft, as 3000 kg for a billion: a hundred times apart, and neither of them right.
    score = CarbonMass.of_kg(75_000).per(Fraction(5, 2) * BILLION, FunctionalUnit.PARAMETER)
    assert score is not None
    assert score.kg_per(BILLION) == 30_000.0
    assert score.kg_per(BILLION) not in (30.0, 3_000.0)


def test_a_published_energy_example_was_a_thousand_times_off() -> None:
    # A draft of fields for usage.energy: 500 J, printed as 1.39e-7 kWh.
    assert EnergyAmount.of_j(500).kwh == pytest.approx(1.389e-4, rel=1e-3)
    assert EnergyAmount.of_j(500).wh == pytest.approx(0.1389, rel=1e-3)


def test_what_is_of_two_kinds_cannot_be_added() -> None:
    energy, mass = EnergyAmount.of_kwh(1), CarbonMass.of_g(1)
    with pytest.raises(TypeError):
        energy + mass
    with pytest.raises(TypeError):
        mass + energy
    with pytest.raises(TypeError):
        mass + 1
    score = CarbonPerUnit(Fraction(1), FunctionalUnit.TOKEN)
    with pytest.raises(TypeError):
        score + score


def test_no_use_has_no_score() -> None:
    assert CarbonMass.of_g(1).per(0, FunctionalUnit.TOKEN) is None


def test_energy_at_an_intensity() -> None:
    assert EnergyAmount.of_kwh(2).at(250).g == 500.0
    assert EnergyAmount.of_wh(1).kwh == 0.001
    assert CarbonMass.of_g(1500).kg == 1.5


@given(st.lists(st.integers(0, 2**53), max_size=20), st.randoms())
def test_sums_are_exact_in_any_order(quanta: list[int], random) -> None:
    shuffled = list(quanta)
    random.shuffle(shuffled)
    sums = []
    for order in (quanta, shuffled):
        total = EnergyAmount.of_j(0)
        for one in order:
            total += EnergyAmount.of_quanta(one)
        sums.append(total)
    assert sums[0] == sums[1] == EnergyAmount.of_quanta(sum(quanta))

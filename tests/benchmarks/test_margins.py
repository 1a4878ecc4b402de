"""What the benchmark of margins gives them, and that it is no other margin than the gateway's."""

from typing import Any

import pytest

margins: Any = pytest.importorskip("benchmarks.margins", reason="MARGINS NOT TRIED: no source")


@pytest.mark.parametrize("kind", margins.KINDS)
def test_of_whatever_errors_as_many_are_within_of_the_first_thousand(kind):
    found = margins.shares(margins.Now, margins.KINDS[kind], 2)
    assert found[-1] == pytest.approx(95.0, abs=1.5)


def test_steps_alone_are_late_and_a_window_is_not():
    too_large = margins.KINDS["told 8 x too large"]
    assert margins.shares(margins.Steps, too_large, 1)[-1] > 99.0
    assert margins.shares(margins.Window, too_large, 1)[-1] == pytest.approx(95.0, abs=1.5)

import numpy as np
import pytest

from router.lab.sim.traffic.tables import (
    INPUT,
    OUTPUT,
    PRESETS,
    constant_lengths,
    cut,
    length_tables,
    lengths_named,
    lengths_of_log_normal,
    lengths_of_quantiles,
    normalised,
    shapes,
)


def test_shipped_tables_are_sane():
    for name, shape in shapes().items():
        assert len(shape.hours) == 24 and len(shape.days) == 7, name
        assert sum(shape.hours) == pytest.approx(24.0, abs=0.01)
        assert sum(shape.days) == pytest.approx(7.0, abs=0.01)
    means = {
        ("servegen-m-large", INPUT): 758.8, ("servegen-m-large", OUTPUT): 211.1,
        ("servegen-deepseek-r1", OUTPUT): 1527.4, ("azure-2023-conv", INPUT): 1154.7,
        ("azure-2023-conv", OUTPUT): 211.1,
    }  # fmt: skip
    for (name, field), mean in means.items():
        assert lengths_named(name, field).mean() == pytest.approx(mean, rel=0.02), name
    for preset in PRESETS.values():
        assert preset.shape in shapes() and preset.lengths in length_tables()


def test_lengths():
    found = lengths_of_quantiles({0.0: 10, 0.5: 20, 1.0: 20})
    assert found[0] == 10 and found[-1] == 20 and found[len(found) // 2] == 20
    assert (np.diff(found) >= 0).all()
    log_normal = lengths_of_log_normal(200.0, 600.0)
    assert log_normal.mean() == pytest.approx(200.0, rel=0.01)
    assert np.quantile(log_normal, 0.95) == pytest.approx(600.0, rel=0.01)
    assert cut(log_normal, 300.0).max() == 300
    assert constant_lengths(0.2).min() == 1
    assert normalised([1, 3]) == (0.5, 1.5)
    for bad in ({0.5: 9, 0.9: 5}, {0.5: 1, 1.5: 2}):
        with pytest.raises(ValueError, match=r"must not fall|between 0 and 1"):
            lengths_of_quantiles(bad)
    with pytest.raises(ValueError, match="unknown lengths table"):
        lengths_named("servegen-m-huge", INPUT)

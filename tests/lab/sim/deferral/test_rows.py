import numpy as np

from router.lab.sim.deferral.rows import RequestFigures


def columns(*rows):
    """(request, end_s, budget_met) each."""
    names = (
        "start_s", "end_s", "energy_j_attributional", "gco2e_attributional", "gco2e_marginal",
    )  # fmt: skip
    made = {name: np.ones(len(rows)) for name in names}
    made |= {
        name: np.zeros(len(rows), np.int64)
        for name in ("model", "region", "endpoint", "shed_reason")
    }
    made["request"], made["end_s"], made["budget_met"] = (
        np.array(one) for one in zip(*rows, strict=True)
    )
    return made


def test_rows_come_in_any_order_and_lie_by_request():
    rows = RequestFigures(4)
    rows.requests(columns((2, 9.0, 1)))
    rows.requests(columns((0, np.nan, 0)))
    assert rows.seen.tolist() == [True, False, True, False]
    assert rows.answered.tolist() == [False, False, True, False]
    assert rows.code("budget_met").tolist() == [0, -1, 1, -1]
    some = rows.taken(np.array([2, 2, 1]))
    assert some.figure("end_s")[:2].tolist() == [9.0, 9.0]
    assert some.answered.tolist() == [True, True, False]

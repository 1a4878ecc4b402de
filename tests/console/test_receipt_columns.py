"""Rows as columns: what is not known is NaN or "", and a long name takes its room once."""

import tracemalloc

import numpy as np
import pyarrow as pa

from router.console.receipt_columns import ReceiptColumns

COUNT = 20_000


def columns(models, **more):
    count = len(models)
    return ReceiptColumns(
        pa.table(
            {
                "finished_at": pa.array(np.arange(count) * 10**6, pa.timestamp("us", "UTC")),
                "outcome": ["answered", "refused"] * (count // 2),
                "model": models,
                **more,
            }
        )
    )


def test_texts_are_told_by_their_places_and_rows_by_their_texts():
    rows = columns(["b", None, "a\0", "b"], gco2e=[1.0, None, 3.0, 4.0])
    names, codes = rows.coded("model")
    assert [names[code] for code in codes] == ["b", "", "a\0", "b"]
    assert rows.answered.tolist() == [True, False, True, False]
    assert rows.having("model", {"b", "a"}).tolist() == [True, False, False, True]
    assert not rows.having("model", ()).any()
    assert np.isnan(rows.figures("gco2e")).tolist() == [False, True, False, False]
    assert rows.since(1.0).tolist() == [False, False, True, True]
    nothing = columns([])
    assert nothing.coded("model").names == () and not len(nothing.answered)


def test_one_long_name_does_not_make_each_row_as_long():
    rows = columns(["short"] * (COUNT - 1) + ["x" * 256])
    tracemalloc.start()
    try:
        rows.coded("model")
        rows.having("model", {"short"})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 64 * COUNT

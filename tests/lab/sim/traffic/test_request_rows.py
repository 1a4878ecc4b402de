import gzip
import math
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.sim.traffic import request_rows
from router.lab.sim.traffic.request_rows import open_rows

TEXTS, NUMBERS = ("origin", "model"), ("arrival_s", "input_tokens", "e2e_budget_ms")
HEADER = ",".join([*TEXTS, *NUMBERS])
text = st.text("abc, ü\n\"'", max_size=4)
number = st.floats(allow_nan=False) | st.just(math.nan)


def read(path):
    """Header, places, numbers and texts of the whole file."""
    header = []
    parts = list(open_rows(path, header.extend))
    return (
        header,
        list(chain.from_iterable(part.places for part in parts)),
        {n: np.concatenate([part.numbers[n] for part in parts]) for n in parts[0].numbers},
        {n: list(chain.from_iterable(part.texts[n] for part in parts)) for n in parts[0].texts},
    )


def cell(value):
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if math.isnan(value) else repr(value)


@given(st.lists(st.tuples(text, text, number, number, number), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_a_file_holds_the_same_whatever_its_format(tmp_path_factory, rows):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("rows")
    whole = "\n".join([HEADER, *(",".join(map(cell, row)) for row in rows)]).encode()
    (folder / "w.csv").write_bytes(whole)
    (folder / "w.csv.gz").write_bytes(gzip.compress(whole))
    columns = dict(zip((*TEXTS, *NUMBERS), zip(*rows, strict=True), strict=True))
    parquet.write_table(
        pyarrow.table({n: list(c) for n, c in columns.items()}), folder / "w.parquet"
    )
    found = [read(folder / name) for name in ("w.csv", "w.csv.gz", "w.parquet")]
    for header, _, numbers, texts in found:
        assert header == [*TEXTS, *NUMBERS]
        for name in NUMBERS:
            assert np.array_equal(numbers[name], columns[name], equal_nan=True), name
        assert texts == {name: [one.strip() for one in columns[name]] for name in TEXTS}
    assert found[0][1] == found[1][1]
    assert found[2][1] == list(range(1, len(rows) + 1))


def test_a_row_has_the_number_of_its_last_line(tmp_path):
    path = tmp_path / "w.csv"
    path.write_text('origin,arrival_s\nx,1\n\n"two\nlines",2\ny,3\n')
    assert read(path)[1] == [2, 5, 6]


def test_columns_that_mean_nothing_here_are_told_and_not_read(tmp_path):
    path = tmp_path / "w.csv"
    path.write_text("note, origin ,arrival_s\nhello,x,1\n")
    header, _, numbers, texts = read(path)
    assert header == ["note", "origin", "arrival_s"]
    assert (list(numbers), list(texts)) == (["arrival_s"], ["origin"])


def test_rows_come_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(request_rows, "_READ_ROWS", 3)
    path = tmp_path / "w.csv"
    path.write_text("\n".join(["arrival_s", *map(str, range(7))]))
    parts = list(open_rows(path, lambda _: None))
    assert [len(part.places) for part in parts] == [3, 3, 1]
    assert read(path)[2]["arrival_s"].tolist() == list(range(7))

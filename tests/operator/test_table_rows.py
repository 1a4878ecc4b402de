"""A table is read alike in both formats, and what is wrong in it is told with its place."""

import pytest

from router.errors import TraceError
from router.operator.table_rows import table_columns, table_rows


def test_both_formats_have_rows_by_column(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    (tmp_path / "a.csv").write_text("\ufeffx,y\n1,\n2,b\n", encoding="utf-8")
    pq.write_table(pa.table({"x": ["1", "2"], "y": [None, "b"]}), tmp_path / "a.parquet")
    for name, first, empty in (("a.csv", 2, ""), ("a.parquet", 1, None)):
        path = tmp_path / name
        assert table_columns(path, "parquet") == ["x", "y"]
        assert list(table_rows(path, "parquet")) == [
            (first, {"x": "1", "y": empty}), (first + 1, {"x": "2", "y": "b"}),
        ]  # fmt: skip


@pytest.mark.parametrize("text", ["x,y\n1\n", "x,y\n1,2,3\n"])
def test_a_row_that_is_no_row_is_told(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(TraceError, match=r"a\.csv: row 2: cells and header differ"):
        list(table_rows(tmp_path / "a.csv", "parquet"))


def test_a_parquet_file_whose_rows_are_damaged_is_told(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [f"{number}" for number in range(500)]}), path)
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)
    # The header, at the end of the file, is whole.
    assert table_columns(path, "parquet") == ["x"]
    with pytest.raises(TraceError, match=r"a\.parquet: not a readable Parquet file"):
        list(table_rows(path, "parquet"))

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.errors import DataError
from router.ledger.decisions.files import (
    DOCUMENT_SCHEMA,
    decision_files,
    hour_folder,
)

ROWS = pa.table({"id": ["a", "b"], "body": [b"1", b"2"]}, schema=DOCUMENT_SCHEMA)
LEAP = 1_709_210_000.0  # 2024-02-29T12:33:20Z


def test_a_file_lies_in_its_hour_and_is_read_back(tmp_path):
    files = decision_files(tmp_path)
    files.write(hour_folder("documents", LEAP), "w-1", ROWS)
    path = tmp_path / "documents/date=2024-02-29/hour=12/w-1.parquet"
    assert path.is_file()
    assert [p.name for p in path.parent.iterdir()] == ["w-1.parquet"]
    (found,) = files.paths("documents", -math.inf, math.inf)
    assert pa.concat_tables(files.read(found, DOCUMENT_SCHEMA)).equals(ROWS)
    assert pq.read_table(path).num_rows == 2


def test_only_hours_that_are_asked_for_are_read(tmp_path):
    files = decision_files(str(tmp_path))
    for hours in (0, 1, 2, 30):
        files.write(hour_folder("documents", LEAP + 3600.0 * hours), f"w-{hours}", ROWS)
    hour = LEAP // 3600.0 * 3600.0

    def names(since, until):
        return [path.rsplit("/", 1)[1] for path in files.paths("documents", since, until)]

    assert names(-math.inf, math.inf) == [f"w-{n}.parquet" for n in (0, 1, 2, 30)]
    assert names(hour + 3600.0, hour + 7200.0) == ["w-1.parquet"]
    assert names(hour + 3599.0, hour + 7201.0) == ["w-0.parquet", "w-1.parquet", "w-2.parquet"]
    assert names(hour + 1e6, math.inf) == []


def test_what_is_no_file_of_an_hour_is_passed_over(tmp_path):
    files = decision_files(tmp_path)
    files.write(hour_folder("documents", LEAP), "w-1", ROWS)
    for name in (
        "documents/readme.parquet", "documents/date=x/hour=12/w.parquet",
        "documents/date=2024-02-29/hour=99/w.parquet",
        "documents/date=2024-02-29/hour=12/.w-2.parquet.aside",
        "documents/date=2024-02-29/hour=12/.hidden.parquet",
        "documents/date=2024-02-29/hour=12/notes.txt",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"nothing")
    assert len(files.paths("documents", -math.inf, math.inf)) == 1
    assert files.paths("decisions", -math.inf, math.inf) == []
    assert decision_files(tmp_path / "none").paths("documents", -math.inf, math.inf) == []


def test_foreign_and_broken_files_are_told_by_name(tmp_path):
    files = decision_files(tmp_path)
    files.write(hour_folder("documents", LEAP), "w-1", ROWS)
    (whole,) = files.paths("documents", -math.inf, math.inf)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(Path(whole).read_bytes()[:-20])
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(ROWS, foreign)
    newer = tmp_path / "newer.parquet"
    pq.write_table(ROWS.replace_schema_metadata({"carbon_router.decisions": "2"}), newer)
    for path, text in (
        (cut, "cannot be read"), (foreign, "none of a ledger's decisions"),
        (newer, "version b'2'"), (tmp_path / "gone.parquet", "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=f"{path.name}.*{text}"):
            list(files.read(str(path), DOCUMENT_SCHEMA))
    with pytest.raises(DataError, match="lacks more"):
        list(files.read(whole, DOCUMENT_SCHEMA.append(pa.field("more", pa.string()))))


def test_what_cannot_be_written_leaves_no_file(tmp_path):
    files = decision_files(tmp_path)
    (tmp_path / "documents").write_text("in the way")
    with pytest.raises(OSError, match="documents"):
        files.write(hour_folder("documents", LEAP), "w-1", ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["documents"]


def test_a_url_is_a_place_and_nonsense_is_none(tmp_path):
    files = decision_files(f"file://{tmp_path}")
    files.write(hour_folder("documents", LEAP), "w-1", ROWS)
    assert len(decision_files(tmp_path).paths("documents", -math.inf, math.inf)) == 1
    with pytest.raises(DataError, match="no place for files"):
        decision_files("nonsense://here")


def test_hours_that_are_old_are_removed_with_their_documents(tmp_path):
    files = decision_files(tmp_path)
    for kind in ("documents", "decisions"):
        for hours in (0, 1, 2):
            files.write(hour_folder(kind, LEAP + 3600.0 * hours), f"w-{hours}", ROWS)
    hour = LEAP // 3600.0 * 3600.0
    assert files.prune(hour + 3599.0) == 0
    assert files.prune(hour + 7200.0) == 4
    for kind in ("documents", "decisions"):
        (left,) = files.paths(kind, -math.inf, math.inf)
        assert left.endswith("w-2.parquet")

import math

import pyarrow as pa
import pytest

from router.errors import DataError
from router.ledger.decisions.files import DOCUMENT_SCHEMA, decision_files
from router.ledger.decisions.reading import DecisionLedger
from tests.ledger.kept import kept_decisions, write_all, writer_of


@pytest.fixture
def ledger(tmp_path):
    kept = [one for seed in (1, 2) for one in kept_decisions(seed, 30)]
    write_all(writer_of(tmp_path), kept)
    return tmp_path, kept


def test_what_was_kept_is_read_with_its_snapshot(ledger):
    folder, kept = ledger
    reads = list(DecisionLedger(folder))
    assert [read.row.decision_id for read in reads] == [one.decision_id for one in kept]
    for one, read in zip(kept, reads, strict=True):
        assert read.kept.is_same
        assert read.kept.snapshot.built_at == one.sight.snapshot.built_at
    assert len({id(read.kept) for read in reads}) == len({id(one.sight.snapshot) for one in kept})


def test_a_span_of_time_is_what_lies_in_it(ledger):
    folder, kept = ledger
    times = sorted(one.sight.seen.at for one in kept)
    since, until = times[10], times[40]
    found = [read.row.seen.at for read in DecisionLedger(folder, since, until)]
    assert sorted(found) == [at for at in times if since <= at < until]
    assert list(DecisionLedger(folder, until=times[0] - 1e6)) == []


def test_a_decision_whose_documents_are_gone_is_still_read(ledger):
    folder, kept = ledger
    for path in decision_files(folder).paths("documents", -math.inf, math.inf):
        (folder / path).unlink()
    reads = list(DecisionLedger(folder))
    assert len(reads) == len(kept)
    assert all(read.kept is None for read in reads)


def test_a_document_that_was_changed_is_told(ledger):
    folder, _ = ledger
    files = decision_files(folder)
    for path in files.paths("documents", -math.inf, math.inf):
        table = pa.concat_tables(files.read(path, DOCUMENT_SCHEMA))
        bodies = [body[:-1] + b"\x00" for body in table.column("body").to_pylist()]
        changed = table.set_column(1, "body", pa.array(bodies, pa.binary()))
        name = path.rsplit("/", 1)[1].removesuffix(".parquet")
        files.write(path.removeprefix(f"{files.root}/").rsplit("/", 1)[0], name, changed)
    with pytest.raises(DataError, match="is not what it was"):
        list(DecisionLedger(folder))


def test_a_place_without_any_is_empty(tmp_path):
    assert list(DecisionLedger(tmp_path / "none")) == []

import logging
import math
import threading

from router.core.seen import Sight
from router.ledger.decisions import writer as module
from router.ledger.decisions.files import DECISIONS, DOCUMENTS, decision_files
from router.ledger.decisions.reading import DecisionLedger
from router.operator.replaying import replay
from tests.ledger.kept import kept_decisions, write_all, writer_of


def files_of(folder, kind):
    return decision_files(folder).paths(kind, -math.inf, math.inf)


def test_documents_are_written_once_an_hour(tmp_path):
    writer = writer_of(tmp_path)
    kept = list(kept_decisions(1, 20))
    later = [
        one._replace(sight=one.sight._replace(seen=_later(one.sight.seen, 3600.0))) for one in kept
    ]
    for some in (kept[:10], kept[10:], later):
        for one in some:
            writer.keep(one)
        writer.flush()
    assert writer.counts == (40, 0, 0)
    assert len(files_of(tmp_path, DECISIONS)) == 3
    documents = files_of(tmp_path, DOCUMENTS)
    assert len(documents) == 2
    assert len({path.split("hour=")[1][:2] for path in documents}) == 2
    assert sum(one.kept is not None for one in DecisionLedger(tmp_path)) == 40


def _later(seen, seconds):
    return seen._replace(at=seen.at + seconds)


def test_a_full_queue_drops_and_counts(tmp_path, monkeypatch):
    (one,) = kept_decisions(1, 1)
    told = []
    writer = writer_of(tmp_path, told=lambda *one: told.append(one))
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    for _ in range(5):
        writer.keep(one)
    assert writer.counts == (0, 2, 0)
    assert told == [("dropped", 1)] * 2
    writer.flush()
    assert writer.counts == (3, 2, 0)
    monkeypatch.setattr(module, "MOST_WAITING", 100)
    monkeypatch.setattr(module, "MOST_WAITING_BYTES", 2 * one.sight.seen.live.nbytes)
    for _ in range(5):
        writer.keep(one)
    writer.flush()
    assert writer.counts == (5, 5, 0)


def test_what_the_store_does_not_take_is_counted_and_the_next_is_written(tmp_path, caplog):
    (one,) = kept_decisions(1, 1)
    writer = writer_of(tmp_path)
    (tmp_path / "decisions").write_text("in the way")
    writer.keep(one)
    with caplog.at_level(logging.WARNING):
        writer.flush()
    assert writer.counts == (0, 0, 1)
    assert "1 kept decisions are lost" in caplog.text
    (tmp_path / "decisions").unlink()
    writer.keep(one)
    writer.flush()
    assert writer.counts == (1, 0, 1)
    assert [read.kept is not None for read in DecisionLedger(tmp_path)] == [True]


def test_a_decision_that_cannot_be_told_loses_its_batch_alone(tmp_path, caplog):
    (one,) = kept_decisions(1, 1)
    writer = writer_of(tmp_path)
    broken = one._replace(sight=Sight(None, one.sight.seen, one.sight.answered, 1.0))
    writer.keep(broken)
    with caplog.at_level(logging.WARNING):
        writer.flush()
    writer.keep(one)
    writer.flush()
    assert writer.counts == (1, 0, 1)


def test_a_thread_writes_until_it_is_closed(tmp_path):
    writer = writer_of(tmp_path)
    writer.start()
    for one in kept_decisions(1, 40):
        writer.keep(one)
    assert writer.close(60.0)
    assert writer.counts == (40, 0, 0)
    assert len(files_of(tmp_path, DECISIONS)) == 1


def test_rows_are_written_before_their_time_where_there_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WRITE_AT", 20)
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    written = threading.Event()

    def told(outcome, rows):
        if outcome == "written":
            written.set()

    writer = writer_of(tmp_path, told=told)
    writer.start()
    for one in kept_decisions(1, 40):
        writer.keep(one)
    assert written.wait(60.0)
    assert writer.close(60.0)
    assert writer.counts == (40, 0, 0)


def test_who_leaves_tenants_out_keeps_where_they_may_run(tmp_path):
    kept = [one for one in kept_decisions(1, 200) if one.sight.seen.request.tenant]
    write_all(writer_of(tmp_path, tenant_name=lambda _: ""), kept)
    found = replay(DecisionLedger(tmp_path))
    assert (found.decisions, found.unreplayable) == (len(kept), 0)
    assert sum(code.otherwise for code in found.codes) == 0
    assert {read.row.seen.request.tenant for read in DecisionLedger(tmp_path)} == {"", "eu/us"}


def test_two_writers_of_one_place_do_not_meet(tmp_path):
    for name in ("w1", "w2"):
        write_all(writer_of(tmp_path, name=name), kept_decisions(1, 10))
    assert len(list(DecisionLedger(tmp_path))) == 20

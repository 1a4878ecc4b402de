import csv
import math
import random
from dataclasses import fields

import numpy as np
import pytest

from router.config.settings import RequestFileSettings
from router.errors import TraceError
from router.lab.sim.traffic.ledger_rows import is_ledger
from router.ledger.receipt_cells import ended_cells, turned_away_cells
from router.ledger.sealed_files import Head, seal_rows
from router.ledger.tables import RECEIPTS
from router.model import Budget, Request, RowOutcome
from router.telemetry.request_file import COLUMNS, row_of
from tests.gateway.support import receipt
from tests.lab.sim.traffic.workload_files import read, whole

# 2026-11-30T07:00Z.
AT = 1_796_022_000.0
START = AT // 86_400.0 * 86_400.0
MEANS = {"m": (30.0, 40.0), "n": (5.0, 6.0)}


def plain(name):
    return name


def receipts(count, rng):
    """As requests end one after the other, of two models, some without a known length."""
    for number in range(count):
        asked = Request(
            rng.choice("mn"), origin=rng.choice("xy"), tenant=rng.choice(["", "acme"]),
            residency=rng.choice([frozenset(), frozenset({"uk", "eu"})]),
            budget=Budget(rng.choice([math.inf, 300.0]), math.inf, math.inf),
            input_tokens=rng.choice([math.nan, 17.0]),
            max_output_tokens=rng.choice([math.inf, 64.0, 5.0]),
        )  # fmt: skip
        yield receipt(
            decision_id=f"gw-{number}", request=asked,
            output_tokens=rng.choice([12.0, 40.0, math.nan]),
            e2e_ms=float(rng.randrange(8, 4000) * 8), finished_at=AT + 16.0 * number,
        )  # fmt: skip


def write_ledger(folder, rows):
    """One file an hour."""
    head, hours = Head(), {}
    for row in rows:
        hours.setdefault(row[1] // 3_600_000_000, []).append(row)
    for hour in sorted(hours):
        _, link = seal_rows(RECEIPTS, hours[hour], folder, "gw", head)
        head = Head(link.link, link.hash, link.last_seq)
    return folder


def opened(path, **options):
    return read(path, 86_400.0, start=START, lengths=MEANS, **options)


def test_a_ledger_is_the_same_workload_as_the_log_of_the_same_requests(tmp_path):
    ended = list(receipts(400, random.Random(1)))
    settings = RequestFileSettings(tmp_path / "log.csv", 1.0, 10**6, 1, "plain")
    with settings.file.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(row_of(one, settings) for one in ended)
    ledger = write_ledger(
        tmp_path / "ledger", [ended_cells(one, RowOutcome.ANSWERED, "", plain) for one in ended]
    )
    one, other = opened(settings.file), opened(ledger)
    for column in fields(whole(one)):
        mine, its = getattr(whole(other), column.name), getattr(whole(one), column.name)
        if column.name == "arrival_s":
            assert mine == pytest.approx(its, abs=1e-3)
        elif column.name in ("origin", "model", "tenant", "residency"):
            names, codes = getattr(other.names, _plural(column.name)), mine
            wanted = getattr(one.names, _plural(column.name))
            assert [names[code] for code in codes] == [wanted[code] for code in its]
        elif mine is not None:
            assert np.array_equal(mine, its)
    assert "workload.file: a ledger, of all its requests 400 answered" in other.notes
    assert any("requests have no output_tokens" in note for note in other.notes)
    assert not any("not used" in note for note in other.notes)


def _plural(name):
    return "residencies" if name == "residency" else f"{name}s"


def test_all_who_came_are_in_it_and_attempts_that_moved_are_not(tmp_path):
    ended = list(receipts(5, random.Random(2)))
    outcomes = [
        (RowOutcome.MOVED, "upstream_lost"), (RowOutcome.ANSWERED, ""),
        (RowOutcome.FAILED, "upstream_lost"), (RowOutcome.CANCELLED, "cancelled"),
        (RowOutcome.ANSWERED, ""),
    ]  # fmt: skip
    rows = [
        ended_cells(one, outcome, reason, plain)
        for one, (outcome, reason) in zip(ended, outcomes, strict=True)
    ]
    asked = ended[0].request
    for reason in ("shed", "model_unknown", "unauthenticated"):
        rows.append(
            turned_away_cells(asked, RowOutcome.REFUSED, reason, "p", AT + 100.0, 50_000.0, plain)
        )
    found = opened(write_ledger(tmp_path, rows))
    traffic = whole(found)
    assert len(traffic) == 5
    note = "workload.file: a ledger, of all its requests 2 answered, 1 cancelled, 1 failed, "
    assert f"{note}1 refused" in found.notes
    # Of the refused one it is known when it came; nobody knows how long its answer was.
    arrivals = sorted([one.finished_at - one.e2e_ms / 1e3 - START for one in ended[1:]])
    assert (
        pytest.approx(traffic.arrival_s[-1], abs=1e-3) == (AT + 50.0 - START)
        or (AT + 50.0 - START) in traffic.arrival_s
    )
    assert set(np.round(arrivals, 2)) <= set(np.round(traffic.arrival_s, 2))
    assert (np.diff(traffic.arrival_s) >= 0.0).all()


def test_a_ledger_of_more_than_is_kept_is_read_in_order_again_and_again(tmp_path):
    rows = [
        ended_cells(one, RowOutcome.ANSWERED, "", plain) for one in receipts(300, random.Random(3))
    ]
    found = opened(write_ledger(tmp_path, rows), kept_rows=10)
    first, again = whole(found), whole(found)
    assert len(first) == 300
    assert np.array_equal(first.arrival_s, again.arrival_s)
    assert (np.diff(first.arrival_s) >= 0.0).all()


def test_a_folder_that_is_none_and_a_broken_one_are_told(tmp_path):
    assert not is_ledger(tmp_path)
    rows = [ended_cells(one, RowOutcome.ANSWERED, "", plain) for one in receipts(3, random)]
    write_ledger(tmp_path, rows)
    assert is_ledger(tmp_path)
    (file,) = tmp_path.glob("receipts/*/*/*.parquet")
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(TraceError, match="a ledger that cannot be read"):
        opened(tmp_path)

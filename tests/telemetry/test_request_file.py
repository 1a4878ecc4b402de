"""Successful requests as rows: what stands in them, and that nobody waits for them."""

import csv
import math
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.settings import RequestFileSettings
from router.model import Budget, Request, TokensKind
from router.telemetry.appended import AppendedFile
from router.telemetry.request_file import COLUMNS, RequestFile, row_of
from tests.factories import NOW
from tests.gateway.support import receipt

REQUEST = Request(
    "llama", request_id="secret-id", origin="home", tenant="acme",
    residency=frozenset({"uk", "eu"}), budget=Budget(300.0, math.inf, 5000.0, True),
    input_tokens=120.0, max_output_tokens=512.0,
)  # fmt: skip


class Tally:
    def __init__(self):
        self.written = self.lost = 0

    def __call__(self, written, lost):
        self.written += written
        self.lost += lost


def settings(folder, **changes):
    values = {"sample": 1.0, "max_bytes": 10**6, "keep": 1, "tenant": "hash", **changes}
    return RequestFileSettings(folder / "requests.csv", **values)


def named(folder, a_receipt, **changes):
    return dict(zip(COLUMNS, row_of(a_receipt, settings(folder, **changes)), strict=True))


def rows(folder):
    with (folder / "requests.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_holds_what_a_workload_needs_and_what_the_receipt_says(tmp_path):
    row = named(tmp_path, receipt(request=REQUEST, finished_at=NOW + 1.712, e2e_ms=1712.0))
    assert row["time"] == "2023-11-14T22:10:00.000Z"
    assert (row["origin"], row["model"], row["residency"]) == ("home", "llama", "eu;uk")
    assert (row["input_tokens"], row["output_tokens"]) == ("120", "200")
    assert (row["ttft_budget_ms"], row["tpot_budget_ms"]) == ("300", "")
    assert (row["decision_id"], row["endpoint"], row["energy_j"]) == ("gw-1", "west-0", "215.5")
    assert "secret-id" not in row.values()


def test_an_estimate_of_the_answers_length_says_that_it_is_one(tmp_path):
    estimated = receipt(tokens_kind=TokensKind.ESTIMATED)
    assert named(tmp_path, estimated)["tokens_kind"] == "estimated"
    assert named(tmp_path, estimated._replace(output_tokens=math.nan))["tokens_kind"] == ""


def test_a_row_says_how_often_its_client_asked_before(tmp_path):
    again = receipt(request=REQUEST._replace(client_retries=2))
    assert named(tmp_path, again)["client_retries"] == "2"
    assert named(tmp_path, receipt(request=REQUEST))["client_retries"] == ""


def test_what_is_not_known_is_blank(tmp_path):
    unknown = receipt(
        request=Request("llama"), output_tokens=math.nan, gco2e=math.nan, ttft_ms=math.nan
    )
    row = named(tmp_path, unknown)
    blanks = ("input_tokens", "output_tokens", "gco2e", "ttft_ms", "origin", "tenant")
    assert {row[name] for name in blanks} == {""}


@pytest.mark.parametrize(("style", "shown"), [("plain", "acme"), ("omit", ""), ("hash", None)])
def test_a_tenant_is_told_as_the_operator_wants(tmp_path, style, shown):
    told = named(tmp_path, receipt(request=REQUEST), tenant=style)["tenant"]
    assert told == shown or (shown is None and len(told) == 16)
    again = named(tmp_path, receipt(request=REQUEST, decision_id="gw-2"), tenant=style)["tenant"]
    assert told == again


@given(st.floats(), st.floats(), st.text(max_size=20))
def test_no_number_and_no_name_breaks_a_row(tmp_path_factory, tokens, figure, name):
    odd = Request("llama", origin=name, tenant=name, input_tokens=tokens, max_output_tokens=figure)
    row = named(
        tmp_path_factory.getbasetemp(), receipt(request=odd, output_tokens=tokens, e2e_ms=1.0)
    )
    assert row["input_tokens"] == "" or 1 <= int(row["input_tokens"]) <= 10_000_000
    figures = [row[name] for name in COLUMNS if name.endswith(("_ms", "_j", "tokens", "gco2e"))]
    assert not {"nan", "inf", "0"} & set(figures)


def test_rows_are_written_and_counted(tmp_path):
    tally = Tally()
    file = RequestFile(settings(tmp_path), random.Random(1), tally)
    for number in range(1000):
        file.finished(receipt(decision_id=f"gw-{number}"))
    file.close(20.0)
    assert [row["decision_id"] for row in rows(tmp_path)] == [f"gw-{n}" for n in range(1000)]
    assert (tally.written, tally.lost) == (1000, 0)


def test_a_sample_takes_about_its_part(tmp_path):
    file = RequestFile(settings(tmp_path, sample=0.1), random.Random(1), Tally())
    for _ in range(5000):
        file.finished(receipt())
    file.close(20.0)
    assert 400 < len(rows(tmp_path)) < 600
    assert rows(tmp_path)[0]["sample"] == "0.1"


def test_a_disk_that_stalls_costs_rows_and_makes_nobody_wait(tmp_path, monkeypatch):
    entered, release = threading.Event(), threading.Event()
    append = AppendedFile.append

    def stalled(self, text):
        entered.set()
        assert release.wait(20)
        append(self, text)

    monkeypatch.setattr(AppendedFile, "append", stalled)
    tally = Tally()
    file = RequestFile(settings(tmp_path), random.Random(1), tally, max_rows=10)
    file.finished(receipt())
    assert entered.wait(20)
    for _ in range(25):
        file.finished(receipt())
    assert tally.lost == 15
    release.set()
    file.close(20.0)
    assert tally.written == len(rows(tmp_path)) == 11


def test_a_disk_that_is_full_costs_rows_and_is_told_once(tmp_path, caplog):
    tally = Tally()
    folder = tmp_path / "none"
    file = RequestFile(settings(folder), random.Random(1), tally, max_rows=10)
    file.finished(receipt())
    file.finished(receipt())
    file.close(20.0)
    assert (tally.written, tally.lost) == (0, 2)
    assert caplog.text.count("requests are not written") == 1


def test_a_reload_moves_to_another_file_or_stops(tmp_path):
    file = RequestFile(None, random.Random(1), Tally())
    file.finished(receipt())
    file.configure(settings(tmp_path))
    file.finished(receipt(decision_id="in"))
    file.configure(None)
    file.finished(receipt(decision_id="out"))
    file.close(20.0)
    assert [row["decision_id"] for row in rows(tmp_path)] == ["in"]


def test_nothing_is_opened_where_nothing_is_wanted(tmp_path):
    before = threading.active_count()
    RequestFile(None, random.Random(1), Tally()).close()
    assert threading.active_count() == before

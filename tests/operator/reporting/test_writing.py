import csv
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from router.errors import DataError
from router.ledger.month import Month
from router.operator.reporting.command import command_of, make_report
from router.operator.reporting.gather import Per, ReportQuestion, gather
from router.operator.reporting.writing import file_name, file_names, files_of, write_files
from tests.ledger.receipts import ledger_of, receipts
from tests.operator.reporting.conftest import reported

NOVEMBER = Month(2026, 11)


@pytest.fixture(scope="module")
def files(settled):
    question = ReportQuestion(settled, NOVEMBER, threads=1)
    return files_of(gather(question), command_of(question))


def test_the_same_ledger_is_the_same_bytes(settled, files):
    question = ReportQuestion(settled, NOVEMBER, threads=2)
    assert files_of(gather(question), command_of(question)) == files


def test_nothing_of_another_report_is_overwritten(files, tmp_path):
    write_files(files, tmp_path)
    write_files(files, tmp_path)
    changed = files | {"sci.csv": b"other\n"}
    with pytest.raises(DataError, match=r"sci.csv is there already and is another"):
        write_files(changed, tmp_path)
    assert (tmp_path / "sci.csv").read_bytes() == files["sci.csv"]


def test_csv_and_parquet_hold_the_same(files, tmp_path):
    (tmp_path / "scope2.parquet").write_bytes(files["scope2.parquet"])
    rows = pq.read_table(tmp_path / "scope2.parquet").to_pylist()
    told = list(csv.DictReader(files["scope2.csv"].decode().splitlines()))
    assert len(rows) == len(told) == 3 * 48
    for row, text in zip(rows, told, strict=True):
        assert float(text["energy_kwh"]) == row["energy_kwh"]
        assert text["market_g"] == "" and row["market_g"] is None


def test_the_json_says_what_it_is_of(files):
    body = json.loads(files["report.json"])
    assert body["basis"].startswith("location-based")
    assert body["inputs"]["files"] == 49
    assert "--month 2026-11 --per model" in body["command"]


def test_the_manifest_adds_up_to_the_report(settled, files):
    told = yaml.safe_load(files["impact-framework.yaml"])
    children = told["tree"]["children"]
    total = reported(settled).total
    rows = [row for child in children.values() for row in child["inputs"]]
    grams = sum(row["energy"] * row["grid/carbon-intensity"] for row in rows)
    assert grams == pytest.approx(total.mass("operational_g").g, rel=1e-9)
    assert sum(row["energy"] for row in rows) == pytest.approx(total.energy("facility_q").kwh)
    embodied = sum(row["carbon-embodied"] for row in rows)
    assert embodied == pytest.approx(total.mass("embodied_g").g, rel=1e-9)
    # It sums children row by row.
    hours = {tuple(row["timestamp"] for row in child["inputs"]) for child in children.values()}
    assert len(hours) == 1


def test_spdx_has_the_models_kilowatt_hours(settled, files):
    report = reported(settled)
    (figures,) = [one for one in report.groups if one.group == "llama-3.1-8b"]
    body = json.loads(files["spdx-llama-3.1-8b.json"])
    by_type = {one["type"]: one for one in body["@graph"]}
    (told,) = by_type["ai_AIPackage"]["ai_energyConsumption"]["ai_inferenceEnergyConsumption"]
    assert told["ai_energyUnit"] == "kilowattHour"
    assert float(told["ai_energyQuantity"]) == pytest.approx(figures.energy("facility_q").kwh)
    document = by_type["SpdxDocument"]
    # Supplier, version and place are not known here.
    assert document["profileConformance"] == ["core"]
    assert document["rootElement"] == [by_type["ai_AIPackage"]["spdxId"]]


def test_pages_are_of_models_and_of_no_tenants(files, ledger):
    assert "transparency-llama-3.1-8b.html" in files
    question = ReportQuestion(ledger, NOVEMBER, per=Per.TENANT)
    told = files_of(reported(ledger, Per.TENANT), command_of(question))
    assert not [name for name in told if name.endswith(".html")]
    page = files["transparency-llama-3.1-8b.html"].decode()
    assert not [name for name in page.split() if name.startswith("team-")]


def test_names_of_models_become_names_of_files():
    assert file_name("meta/llama 3:8b") == "meta_llama_3_8b"


def test_a_revision_changes_a_report_and_not_the_receipts(settled, tmp_path, files):
    from router.ledger.prices import add_prices, read_prices

    copy = tmp_path / "ledger"
    shutil.copytree(settled, copy)
    before = {path: path.read_bytes() for path in copy.glob("receipts/*/*/*")}
    known = read_prices(copy)
    key = min(known)
    old = known[key]
    dearer = old.measured._replace(
        g_per_kwh=900.0, low_g_per_kwh=900.0, high_g_per_kwh=900.0, source="operator, revised"
    )
    add_prices(copy, [old._replace(measured=dearer, revision=2)])
    report = make_report(ReportQuestion(copy, NOVEMBER), None)
    (hour,) = [one for one in report.hours if one.revision == 2]
    assert (hour.grid_zone, hour.hour, hour.source) == (*key[:2], "operator, revised")
    body = json.loads(files["report.json"])
    (said,) = [row for row in body["settlement"] if row["model"] == "(all)"]
    assert report.total.mass("settled_g").g > said["settled_g"]
    assert report.total.mass("g_q").g == said["receipted_g"]
    assert {path: path.read_bytes() for path in copy.glob("receipts/*/*/*")} == before


def test_no_two_models_have_one_file():
    texts = ["a/b", "a_b", "A:B", "plain", "x" * 256, "한" * 80]
    found = file_names(texts)
    assert len({name.casefold() for name in found.values()}) == len(texts)
    assert found["plain"] == "plain"
    assert found["a/b"].startswith("a_b-")
    assert all(len(f".transparency-{name}.html".encode()) <= 255 for name in found.values())


def test_a_spreadsheet_runs_no_cell(tmp_path):
    ledger = named_models(tmp_path, '=HYPERLINK("http://x")', "@x", "-1+1")
    told = files_of(gather(ReportQuestion(ledger, NOVEMBER)), "command")
    for name in ("sci.csv", "hours.csv", "components.csv"):
        cells = {row["model"] for row in csv.DictReader(told[name].decode().splitlines())}
        assert {'\'=HYPERLINK("http://x")', "'@x", "'-1+1"} <= cells
        assert all(float(cell) <= 0.0 for row in csv.reader(told[name].decode().splitlines())
                   for cell in row if cell.startswith("-"))  # fmt: skip
    (tmp_path / "sci.parquet").write_bytes(told["sci.parquet"])
    assert "@x" in pq.read_table(tmp_path / "sci.parquet").column("model").to_pylist()


def test_models_that_nobody_served_have_no_page(tmp_path):
    ledger = named_models(tmp_path, "<script>", "x" * 256, outcome="refused")
    told = files_of(gather(ReportQuestion(ledger, NOVEMBER)), "command")
    assert not [name for name in told if name.endswith(".html") or name.startswith("spdx")]
    write_files(told, tmp_path / "out")


def named_models(tmp_path, *names, outcome="answered"):
    """A ledger with a request of each."""
    rows = receipts(len(names), hours=1.0)
    for column, values in (("model", names), ("outcome", [outcome] * len(names))):
        place = rows.schema.get_field_index(column)
        array = pa.array(values, pa.string()).dictionary_encode()
        rows = rows.set_column(place, rows.schema.field(place), array)
    return ledger_of(rows, tmp_path / "ledger")


def test_who_is_called_all_is_not_everybody(tmp_path):
    market = tmp_path / "market.csv"
    factors = "".join(f"{zone},,,100,residual\n" for zone in ("SE", "US-CAL-CISO", "US-MIDA-PJM"))
    market.write_text(f"grid_zone,hour,kwh,g_per_kwh,source\n{factors}")
    ledger = named_models(tmp_path, "(all)", "other", "another")
    told = files_of(gather(ReportQuestion(ledger, NOVEMBER, market=market)), "command")
    rows = list(csv.DictReader(told["scope3_category1.csv"].decode().splitlines()))
    known = {row["model"]: float(row["kwh_with_market_factor"]) for row in rows[:-1]}
    assert rows[-1]["model"] == "(all)" and len(known) == 3
    assert sum(known.values()) == pytest.approx(float(rows[-1]["kwh_with_market_factor"]))

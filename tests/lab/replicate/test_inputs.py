from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from router.errors import ConfigError, TraceError
from router.lab.replicate import inputs
from router.lab.replicate.inputs import VARIABLE, find_folder, read_region_table
from tests.lab.replicate import made_up


def test_the_argument_comes_before_the_variable_before_the_sibling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, named, here = tmp_path / "given", tmp_path / "named", tmp_path / "here" / "clone"
    for folder in (given, named, here):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    environment = {VARIABLE: str(named)}
    assert find_folder(given, environment) == given
    assert find_folder(None, environment) == named
    assert find_folder(None, {}) is None
    assert find_folder(None, {VARIABLE: ""}) is None
    (tmp_path / "here" / "shared" / "data").mkdir(parents=True)
    assert find_folder(None, {}) == inputs.SIBLING


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_a_folder_that_is_named_must_be_there(tmp_path: Path, how: str) -> None:
    gone = tmp_path / "gone"
    arguments = (gone, {}) if how == "argument" else (None, {VARIABLE: str(gone)})
    with pytest.raises(ConfigError, match=r"no such folder; docs/evidence\.md"):
        find_folder(*arguments)


def test_one_site_a_zone_and_australia_only_when_asked_for(tmp_path: Path) -> None:
    literature = made_up.write(tmp_path)
    zones = literature.gcp_zones()
    assert zones.grid_zones == ("BR-CS", "DE", "JP-TK")
    assert zones.rtt_ms.tolist() == [[0.0, 40.0, 120.0], [40.0, 0.0, 80.0], [120.0, 80.0, 0.0]]
    assert np.array_equal(zones.g_per_kwh, made_up.intensities()[:, [1, 2, 4]])
    assert zones.mean_g_per_kwh == pytest.approx(zones.g_per_kwh.mean(axis=0))
    every = literature.gcp_zones(with_australia=True)
    assert every.grid_zones == ("AU-NSW", "BR-CS", "DE", "JP-TK")


def test_a_missing_file_says_where_to_read_on(tmp_path: Path) -> None:
    literature = made_up.write(tmp_path)
    (tmp_path / inputs.AWS_RTT).unlink()
    with pytest.raises(TraceError, match=r"aws_casper_rtt.*no such file; docs/evidence\.md"):
        literature.aws_rtt()


def test_a_zone_that_the_table_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no column SE-SE1"):
        made_up.write(tmp_path).g_per_kwh(("DE", "SE-SE1"))


def test_a_gap_in_the_intensities_is_refused(tmp_path: Path) -> None:
    literature = made_up.write(tmp_path)
    path = tmp_path / inputs.INTENSITIES
    plain = (tmp_path / inputs.INTENSITIES.removesuffix(".gz")).read_text("utf-8").splitlines()
    plain[3] = plain[3].split(",")[0] + "," * len(made_up.ZONES)
    path.write_bytes(made_up.gzipped("\n".join(plain).encode()))
    with pytest.raises(TraceError, match="every hour of every grid zone"):
        _ = literature.intensities


def test_a_pair_without_a_round_trip_is_refused(tmp_path: Path) -> None:
    literature = made_up.write(tmp_path)
    path = tmp_path / inputs.GCP_RTT
    path.write_text(path.read_text("utf-8").replace(",40,", ",,"), "utf-8")
    with pytest.raises(TraceError, match="no round-trip time"):
        literature.gcp_zones()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("from,a\n", "needs a header and a row"),
        ("from,a\nx,1,2\n", "row x: 3 cells, the header 2"),
        ("from,a\nx,far\n", "row x, column a: 'far' is no number"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(TraceError, match=what):
        read_region_table(path)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_malformed_list_of_zones_is_refused(tmp_path: Path, text: str) -> None:
    literature = made_up.write(tmp_path)
    (tmp_path / inputs.GCP_ZONES).write_text(text, "utf-8")
    with pytest.raises(TraceError, match="gcp_region_to_zone"):
        literature.gcp_zones()


def test_columns_may_stand_in_another_order_than_rows(tmp_path: Path) -> None:
    literature = made_up.write(tmp_path)
    before = literature.gcp_zones()
    path = tmp_path / inputs.GCP_RTT
    rows = [line.split(",") for line in path.read_text("utf-8").splitlines()]
    turned = [",".join([row[0], *row[:0:-1]]) for row in rows]
    path.write_text("\n".join(turned) + "\n", "utf-8")
    assert np.array_equal(literature.gcp_zones().rtt_ms, before.rtt_ms)


def test_a_row_or_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    table = made_up.write(tmp_path).aws_rtt()
    assert (table.row("us-east-1"), table.column("us-east-1")) == (3, 3)
    with pytest.raises(TraceError, match=r"aws_casper.*no row us-west-9"):
        table.row("us-west-9")
    with pytest.raises(TraceError, match="no column us-west-9"):
        table.column("us-west-9")


def test_a_blank_cell_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("from,a,b\nx,1,\n", "utf-8")
    table = read_region_table(path)
    assert (table.rows, table.columns) == (("x",), ("a", "b"))
    assert np.array_equal(table.values, [[1.0, np.nan]], equal_nan=True)


def clones(folder: Path) -> tuple[Path, Path]:
    """Of both repositories, with as much as is read of them, and made up."""
    hours = 365 * 24
    errors = "sim_what_ifs/prediction_error/data_output/added_error"
    carbon = {
        "shared_data/mean_order.json": '{"2022": ["FR", "DE"]}',
        f"{errors}/DE.csv": "0,20\n" + "400.25,1\n" * hours,
        f"{errors}/FR.csv": "0,20\n" + "100.5,1\n" * hours,
        "shared_data/raw_gcp_latency.csv": (
            "sending_region,receiving_region,milliseconds\nw3,w9,10\nw9,w3,11\n"
        ),
        "shared_data/gcp_dc_zonecode_mapper.json": '{"w3": "DE", "w9": "FR"}',
    }
    casper = {
        "CAP/dataset/wiki/latency.csv": "a,b\n3,40\n41,5\n",
        # 21:00 UTC, which is 17:00.
        "CAP/dataset/wiki/requests_original.csv": (
            "timestamp,datetime,a,b\n1660251600,11/8/22 17:00,5566,9915\n"
        ),
    }
    for name, files in (("carbon", carbon), ("casper", casper)):
        for path, text in files.items():
            (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / path).write_text(text, "utf-8")
    return folder / "carbon", folder / "casper"


def fetch_literature():
    path = made_up.ROOT / "tools" / "fetch_literature.py"
    if not path.exists():
        pytest.skip("FETCHING NOT TRIED: tools/ is not part of this distribution")
    spec = importlib.util.spec_from_file_location("fetch_literature", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_the_tool_fetches_is_what_is_read(tmp_path: Path) -> None:
    carbon, casper = clones(tmp_path)
    to = tmp_path / "data"
    arguments = ["--to", str(to), "--carbon", str(carbon), "--casper", str(casper)]
    assert fetch_literature().main(arguments) == 0
    assert all((to / file).is_file() for file in inputs.FILES)
    literature = inputs.Literature(to)
    zones = literature.gcp_zones()
    assert zones.grid_zones == ("DE", "FR")
    assert zones.rtt_ms.tolist() == [[0.0, 10.0], [11.0, 0.0]]
    assert zones.mean_g_per_kwh == pytest.approx([400.25, 100.5])
    assert literature.aws_rtt().rows == literature.aws_rtt().columns == ("a", "b")
    assert literature.aws_rtt().values.tolist() == [[3.0, 40.0], [41.0, 5.0]]
    demand = literature.wiki_demand()
    assert (demand.rows, demand.columns) == (("2022-08-11T17:00Z",), ("a", "b"))
    assert demand.values.tolist() == [[5566.0, 9915.0]]


def test_the_tool_writes_nothing_where_a_file_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    carbon, casper = clones(tmp_path)
    (casper / "CAP/dataset/wiki/latency.csv").unlink()
    to = tmp_path / "data"
    arguments = ["--to", str(to), "--carbon", str(carbon), "--casper", str(casper)]
    assert fetch_literature().main(arguments) == 1
    assert "Nothing was written" in capsys.readouterr().err
    assert not to.exists()

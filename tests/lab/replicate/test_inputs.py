from __future__ import annotations

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


def test_a_blank_cell_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("from,a,b\nx,1,\n", "utf-8")
    table = read_region_table(path)
    assert (table.rows, table.columns) == (("x",), ("a", "b"))
    assert np.array_equal(table.values, [[1.0, np.nan]], equal_nan=True)

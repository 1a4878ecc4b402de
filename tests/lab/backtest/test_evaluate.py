from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from router.carbon.tables.table import read_table
from router.carbon.weather.table import COLUMNS as WEATHER_COLUMNS
from router.cli import main
from router.errors import TraceError
from router.lab.backtest import evaluate, parse_zones, render
from router.lab.backtest.evaluate import PLOT
from router.lab.backtest.files import COLUMNS, FORECASTS, METRICS, REGRET
from router.model import Factors
from tests.lab.backtest.grids import ORIGIN, columns, write

HEADER = "zone,horizon_h,method,n,mape_pct,mae_g,pinball_g,cover50,cover90,cover95"


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = columns()
    values[24 * 16 : 24 * 16 + 4, 1] = np.nan
    return write(tmp_path_factory.mktemp("data") / "grid.csv", values)


@pytest.fixture(scope="module")
def out(holed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves behind."""
    folder = tmp_path_factory.mktemp("out") / "deep"
    arguments = ["forecast-eval", "--data", str(holed), "--train-until", f"{ORIGIN:%Y-%m-%d}"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--every", "5", "--out", str(folder)])
    assert stop.value.code == 0
    return folder


def test_the_command_leaves_its_files(out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {METRICS, FORECASTS, REGRET, PLOT}
    assert (out / METRICS).read_text("utf-8").splitlines()[0] == HEADER
    assert pyarrow.parquet.read_schema(out / FORECASTS).names == list(COLUMNS)
    assert COLUMNS[5:] == ("q025", "q05", "q25", "q50", "q75", "q95", "q975")


def test_the_metrics_can_be_recomputed_from_the_forecasts(out: Path, holed: Path) -> None:
    table = read_table(holed, Factors.LIFECYCLE)
    actual = {
        (zone, table.start + row * 3600.0): float(value)
        for column, zone in enumerate(table.grid_zones)
        for row, value in enumerate(table.g_per_kwh[:, column].tolist())
        if not np.isnan(value)
    }
    groups: dict[tuple[str, int, str], list[tuple[float, dict[str, float]]]] = {}
    for row in pyarrow.parquet.read_table(out / FORECASTS).to_pylist():
        horizon = int((row["valid_at"] - row["issued_at"]).total_seconds() // 3600)
        truth = actual.get((row["zone"], row["valid_at"].timestamp()))
        if truth is not None:
            groups.setdefault((row["zone"], horizon, row["method"]), []).append((truth, row))
    with (out / METRICS).open(encoding="utf-8", newline="") as file:
        metrics = list(csv.DictReader(file))
    assert len(metrics) == 2 * 7 * 4
    for line in metrics:
        rows = groups[line["zone"], int(line["horizon_h"]), line["method"]]
        truth = np.array([y for y, _ in rows])
        error = np.abs(np.array([row["mean"] for _, row in rows]) - truth)
        assert int(line["n"]) == len(rows)
        assert float(line["mae_g"]) == pytest.approx(error.mean(), abs=1e-6)
        assert float(line["mape_pct"]) == pytest.approx(100.0 * (error / truth).mean(), abs=1e-6)
        losses = []
        for name in COLUMNS[5:]:
            gap = truth - np.array([row[name] for _, row in rows])
            level = float("0." + name[1:])
            losses.append(np.maximum(level * gap, (level - 1.0) * gap).mean())
        assert float(line["pinball_g"]) == pytest.approx(np.mean(losses), abs=1e-6)
        for share, low, high in (
            ("50", "q25", "q75"),
            ("90", "q05", "q95"),
            ("95", "q025", "q975"),
        ):
            inside = [row[low] <= y <= row[high] for y, row in rows]
            assert float(line["cover" + share]) == pytest.approx(np.mean(inside), abs=1e-6)


def test_the_table_shows_every_zone_and_method(
    holed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    told: list[float] = []
    evaluation = evaluate(
        holed, ["SØR"], ORIGIN.timestamp(), every=50, progress=lambda _, share: told.append(share)
    )
    Console(width=200).print(render(evaluation))
    text = capsys.readouterr().out
    assert "SØR" in text and "same hour last week" in text and "NORTH" not in text
    assert told == sorted(told) and 0.5 < told[-1] <= 1.0
    assert evaluation.regrets == () and evaluation.written == ()


@pytest.mark.parametrize("until", ["2022-02-28", "2022-03-01", "2023-01-01"])
def test_a_date_outside_the_file_says_what_is_inside(
    until: str, holed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["forecast-eval", "--data", str(holed), "--train-until", until])
    assert stop.value.code == 2
    assert "--train-until must lie between 2022-03-01T01Z and" in capsys.readouterr().err


@pytest.mark.parametrize("until", ["yesterday", "2022-13-01", "", "2022-04-01T00:00+02:00"])
def test_a_date_that_is_none_is_refused(until: str, holed: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["forecast-eval", "--data", str(holed), "--train-until", until])
    assert stop.value.code == 2


def test_a_strange_zone_is_named(holed: Path) -> None:
    with pytest.raises(TraceError, match="no column MARS"):
        evaluate(holed, parse_zones("NORTH, MARS"), ORIGIN.timestamp())


def test_quarter_hours_give_what_their_hours_give(tmp_path: Path) -> None:
    hours = columns(1)[: 24 * 17]
    coarse = write(tmp_path / "h.csv", hours, names="X")
    fine = write(tmp_path / "q.csv", np.repeat(hours, 4, axis=0), step_min=15, names="X")
    scores = [evaluate(path, [], ORIGIN.timestamp(), every=9).scores for path in (coarse, fine)]
    for one, other in zip(*scores, strict=True):
        assert other == pytest.approx(one, nan_ok=True)


def test_hardly_any_history_is_enough(tmp_path: Path) -> None:
    path = write(tmp_path / "short.csv", columns(1)[:60], names="X")
    evaluation = evaluate(path, [], (ORIGIN.timestamp() - 14 * 86_400.0) + 12 * 3600.0)
    assert {score.n for score in evaluation.scores if score.method == "forecaster"} == {0}
    # Nothing is known of last week; all methods are judged on the same origins.
    assert evaluation.origins == 48


def test_weather_that_tells_what_comes_halves_the_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    wind = np.clip(6.0 + np.cumsum(rng.normal(0.0, 0.8, 24 * 40)) % 9.0 - 4.5, 0.0, None)
    values = columns()[: len(wind)]
    values[:, 0] = 500.0 - 40.0 * wind[: len(values)]
    data = write(tmp_path / "grid.csv", values)
    table = read_table(data, Factors.LIFECYCLE)
    zone = table.grid_zones[0]
    header = "datetime,grid_zone," + ",".join(WEATHER_COLUMNS)
    hours = np.datetime64(int(table.start), "s") + np.arange(len(values)) * np.timedelta64(1, "h")
    rows = [
        f"{hour}Z,{zone},{speed:.3f},0,10,5,0" for hour, speed in zip(hours, wind, strict=False)
    ]
    (tmp_path / "weather.csv").write_text("\n".join([header, *rows]))
    since = table.start + (len(values) - 24 * 3) * 3600.0
    errors = [
        evaluate(data, [zone], since, every=6, weather=weather).scores[4].mape_pct
        for weather in (None, tmp_path / "weather.csv")
    ]
    assert errors[1] < 0.5 * errors[0]
    (tmp_path / "weather.csv").write_text("\n".join([header, rows[0].replace(zone, "XX")]))
    with pytest.raises(TraceError, match="none of the grid zones"):
        evaluate(data, [zone], since, weather=tmp_path / "weather.csv")

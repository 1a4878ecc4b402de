import math

import numpy as np
import pytest

from router.errors import TraceError
from router.lab.sim.grid.forecasted import Forecasted
from router.lab.sim.grid.signals import Perfect, Persistence, Tabled
from router.lab.sim.scenario.loading import load
from router.lab.sim.simulation import Autoscaling, Gateways
from router.model import Basis, Factors, Signal
from tests.lab.sim.scenarios import DELETE, grid_csv, problems, scenario

LIFECYCLE = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
HEADER = "arrival_s,origin,model,input_tokens,output_tokens\n"


def test_a_scenario_becomes_values(tmp_path):
    changes = {
        "name": "mine", "warm_up": "5m", "policy": "balanced", "notice": "as the source asks",
        "gateways": {"count": 3, "staleness": 0.5},
        "autoscaling": {"release_after": "10m", "wake": 90, "wake_w": 900},
        "failures": [
            {"region": "b", "start": "1h", "end": "2h"},
            {"endpoint": "r", "start": "2022-05-12T03:00Z", "end": 12600, "noticed_after": "2s"},
            {"endpoint": "r-1", "start": 0, "end": 1},
        ],
    }  # fmt: skip
    loaded = load(scenario(tmp_path, changes))
    found = loaded.simulation
    assert (found.name, found.duration_s, found.warm_up_s, found.seed) == ("mine", 21600, 300, 3)
    assert [e.name for e in found.fleet.endpoints] == ["r-0", "r-1", "lone"]
    assert [p.name for p in found.policies] == ["balanced"]
    assert found.carbon_signal == LIFECYCLE
    assert (found.actual.start, found.actual.g_per_kwh.shape) == (found.start, (6, 2))
    assert found.gateways == Gateways(3, 0.5)
    assert found.autoscaling == Autoscaling(600.0, 90.0, 900.0)
    first, second, third = found.outages
    assert (first.endpoints, first.start_s, first.end_s) == (frozenset({"lone"}), 3600.0, 7200.0)
    assert (second.endpoints, second.start_s, second.end_s, second.noticed_after_s) == (
        frozenset({"r-0", "r-1"}), 10800.0, 12600.0, 2.0,
    )  # fmt: skip
    assert third.endpoints == frozenset({"r-1"})
    assert found.annual_means["A"].g_per_kwh == pytest.approx(200.0, abs=1.0)
    assert isinstance(found.signal, Persistence)
    assert loaded.notice == "as the source asks" and loaded.notes == ()


def test_what_serve_has_besides_is_taken_and_said_to_be_unused(tmp_path):
    changes = {
        "version": 1, "server": {"listen": "127.0.0.1:0"}, "load": {"scrape_s": 2.0}, "retry": {},
        "state": {"file": "learned.json"}, "endpoints/0/protocol": "openai",
        "ledger": {"dir": "ledger"}, "identity": {},
        "endpoints/0/address": "127.0.0.1:9001", "endpoints/0/emulated": True,
        "endpoints/0/metrics": {"url": "http://h:1/metrics", "engine": "vllm"},
    }  # fmt: skip
    notes = load(scenario(tmp_path, changes)).notes
    assert notes == tuple(
        f"{k}: not used by a simulation"
        for k in ("server", "load", "retry", "state", "ledger", "identity")
    )


def test_a_delay_of_the_path_is_one_figure_or_by_region(tmp_path):
    def delays(given):
        return load(scenario(tmp_path, {"path_delay_ms": given})).simulation.path_delay_ms

    assert load(scenario(tmp_path)).simulation.path_delay_ms == delays(0) == {}
    assert delays(5) == {"a": 5.0, "b": 5.0}
    assert delays({"b": 2.5}) == {"b": 2.5}


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"sart": 1}, "sart", "did you mean 'start'?"),
        ({"start": DELETE}, "start", "required"),
        ({"duration": "a while"}, "duration", "90s, 15m"),
        ({"duration": 0}, "duration", "greater than 0"),
        ({"warm_up": "7h"}, "", "warm_up must be shorter"),
        ({"endpoints/0/replicas": {"a": 1}}, "endpoints[0]", "give either region"),
        ({"endpoints/1/region": "c"}, "endpoints[1].region", "unknown region 'c'"),
        ({"endpoints/1/models/0/profile": "x"}, "endpoints[1].models[0].profile", "unknown"),
        ({"regions/a/grid_zone": "C"}, "regions.a", "no such column: unknown column 'C'"),
        ({"carbon/file": "grids.csv"}, "carbon.file", "no such file"),
        ({"carbon/annual_means": {"C": 5}}, "carbon.annual_means.C", "unknown grid zone"),
        ({"signal": {"kind": "file"}}, "signal", "needs one"),
        ({"signal": {"kind": "perfekt"}}, "signal.kind", "did you mean 'perfect'?"),
        ({"policy": "carbon-frist"}, "policy", "did you mean 'carbon-first'?"),
        ({"policies": ["balanced", "balanced"]}, "policies[1]", "name of policies[0]"),
        ({"policies": [{"weights": {}}]}, "policies[0].weights", "all weights are 0"),
        ({"policy": "balanced", "policies": ["balanced"]}, "", "not both"),
        ({"policies": ["balanced", {"name": "p", "weights": {"per_load": 1}, "ladder": [],
                                    "budget": {"ttft_ms": 1}}]}, "policies[1]", "never be met"),
        ({"workload": {}}, "workload", "one of file and generate"),
        ({"workload": {"file": "no.csv"}}, "workload.file", "no such file"),
        ({"workload": {"file": "."}}, "workload.file", "a folder, and no ledger"),
        ({"workload/generate/load": 0.5}, "workload.generate", "one of mean_rps"),
        ({"workload/generate/preset": "chta"}, "workload.generate.preset", "'chat'?"),
        ({"workload/generate/origins/z": {}}, "workload.generate.origins.z", "no round-trip"),
        ({"workload/generate/day": "wikki"}, "workload.generate.day", "'wiki'?"),
        ({"workload/generate/day": [0] * 24}, "workload.generate.day", "nothing would"),
        ({"workload/generate/day": [1] * 23}, "workload.generate.day", "24"),
        ({"workload/generate/classes/0/model": "n"}, "workload.generate.classes[0].model", "unkn"),
        ({"workload/generate/classes/0/input_tokens": {"quantiles": {"0.5": 9, "0.9": 5}}},
         "workload.generate.classes[0].input_tokens", "must not fall"),
        ({"workload/generate/classes/0/output_tokens": {"mean": 9, "p95": 90}},
         "workload.generate.classes[0].output_tokens", "3.87 times"),
        ({"failures": [{"region": "c", "start": 0, "end": 5}]}, "failures[0].region", "unknown"),
        ({"failures": [{"endpoint": "c", "start": 0, "end": 5}]}, "failures[0].endpoint", "unkn"),
        ({"failures": [{"region": "a", "start": 9, "end": 5}]}, "failures[0].end", "after its"),
        ({"failures": [{"region": "a", "start": "7h", "end": "8h"}]}, "failures[0].start", "end"),
        ({"failures": [{"start": 0, "end": 5}]}, "failures[0]", "one of region and endpoint"),
        ({"path_delay_ms": {"c": 5}}, "path_delay_ms.c", "unknown region 'c'"),
        ({"path_delay_ms": {"a": -5}}, "path_delay_ms.a", "greater than or equal to 0"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_key_and_fix(tmp_path, changes, key, text):
    found = problems(scenario(tmp_path, changes))
    assert any(where.startswith(key) and text in what for where, what in found.items()), found


def test_a_file_that_is_not_there_or_no_mapping(tmp_path):
    assert "no such file" in problems(tmp_path / "none.yaml")[""]
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert "mapping" in problems(tmp_path / "list.yaml")[""]


def test_gaps_in_what_the_grids_emitted(tmp_path):
    rows = grid_csv().splitlines()
    rows[1 + 50] = rows[1 + 50].rsplit(",", 1)[0] + ","
    rows[1 + 60] = rows[1 + 60].rsplit(",", 1)[0] + ","
    grid = "\n".join(rows) + "\n"
    with pytest.raises(TraceError, match=r"column B: no value for 2022-05-12T02:00Z .*carbon.fill"):
        load(scenario(tmp_path, grid=grid))
    loaded = load(scenario(tmp_path, {"carbon/fill": "1h"}, grid))
    values = loaded.simulation.actual.g_per_kwh[:, 1]
    assert values[2] == pytest.approx((values[1] + values[3]) / 2)
    assert "1 missing hours of B were filled" in loaded.notes[0]


def test_a_period_that_the_file_does_not_hold(tmp_path):
    for start in ("2022-05-09T23:00Z", "2022-05-13T19:00Z"):
        with pytest.raises(TraceError, match="2022-05-10T00:00Z to 2022-05-14T00:00Z"):
            load(scenario(tmp_path, {"start": start}))


def test_signals(tmp_path):
    (tmp_path / "ahead.csv").write_text(grid_csv())
    kinds = {"perfect": Perfect, "forecaster": Forecasted, "persistence": Persistence}
    for kind, expected in kinds.items():
        loaded = load(scenario(tmp_path, {"signal": {"kind": kind}}))
        assert isinstance(loaded.simulation.signal, expected) and not loaded.notes
    file = scenario(tmp_path, {"signal": {"kind": "file", "file": "ahead.csv"}})
    assert isinstance(load(file).simulation.signal, Tabled)
    (tmp_path / "ahead.csv").write_text(grid_csv(zones="A"))
    assert "no such column" in problems(file)["signal.file"]
    lagged = {"signal": {"kind": "perfect", "publication_lag": "1h"}}
    assert "not used" in load(scenario(tmp_path, lagged)).notes[0]
    at_once = load(scenario(tmp_path, {"start": "2022-05-10T00:00Z"}))
    assert "nothing is published before 2022-05-10T02:00Z" in at_once.notes[0]


WEATHER = (
    "datetime,grid_zone,wind_speed_m_s,irradiance_w_m2,temperature_c,dew_point_c,precipitation_mm\n"
)


def test_weather_beside_the_signal(tmp_path):
    (tmp_path / "weather.csv").write_text(WEATHER + "2022-05-12T00:00Z,A,5,0,10,7,0\n")
    file = scenario(tmp_path, {"signal": {"kind": "forecaster", "weather": "weather.csv"}})
    loaded = load(file)
    assert isinstance(loaded.simulation.signal, Forecasted)
    (note,) = loaded.notes
    assert note.startswith("signal.weather: none of B in the scenario's hours")
    # An hour that the scenario does not have, of a zone that it does not have, and none at all.
    for row in ("2022-05-11T00:00Z,A,5,0,10,7,0\n", "2022-05-12T00:00Z,C,5,0,10,7,0\n", ""):
        (tmp_path / "weather.csv").write_text(WEATHER + row)
        assert "has no hour of the scenario for A, B" in problems(file)["signal.weather"]
    (tmp_path / "weather.csv").write_text(WEATHER + "2022-05-12T00:00Z,A,500,0,10,7,0\n")
    with pytest.raises(TraceError, match=r"row 2, column wind_speed_m_s: .*m/s"):
        load(file)
    missing = {"signal": {"weather": "nowhere.csv"}}
    assert "no such file" in problems(scenario(tmp_path, missing))["signal.weather"]
    other = {"signal": {"kind": "persistence", "weather": "weather.csv"}}
    assert "goes with kind: forecaster" in problems(scenario(tmp_path, other))["signal"]


def test_a_workload_file(tmp_path):
    file = scenario(tmp_path, {"workload": {"file": "w.csv"}})
    (tmp_path / "w.csv").write_text(HEADER + "0.5,x,m,10,20\n1.5,y,m,30,40\n")
    found = load(file).simulation
    (traffic,) = found.workload.chunks()
    assert traffic.input_tokens.tolist() == [10, 30]
    (tmp_path / "w.csv").write_text(HEADER + "0.5,z,m,10,20\n")
    with pytest.raises(TraceError, match=r"row 2, column origin: unknown origin 'z'.*default_orig"):
        load(file)
    # A default origin stands in, under the name that the file has.
    changes = {"workload": {"file": "w.csv"}, "default_origin": "y"}
    loaded = load(scenario(tmp_path, changes))
    assert loaded.simulation.workload.names.origins == ("z",)
    assert loaded.simulation.fleet.rtt_ms["z"] == {"a": 60.0, "b": 5.0}
    assert "taken for 'y'" in loaded.notes[0]


def test_quarter_hours_are_averaged(tmp_path):
    rows = ["datetime,A,B"]
    for quarter in range(96 * 4):
        hour, part = divmod(quarter, 4)
        stamp = f"2022-05-{10 + hour // 24:02d}T{hour % 24:02d}:{part * 15:02d}Z"
        rows.append(f"{stamp},{hour + 1 + part},{100}")
    loaded = load(scenario(tmp_path, grid="\n".join(rows) + "\n"))
    first = loaded.simulation.actual.g_per_kwh[0]
    assert first.tolist() == pytest.approx([48 + 1 + 1.5, 100.0])
    assert "averaged over hours" in loaded.notes[0]


def test_columns_of_other_names_and_columns_of_other_things(tmp_path):
    """Of the file only the fleet's grid zones are looked at, under whatever names they have."""
    rows = grid_csv().replace("datetime,A,B", "Time,Nord Pool (NO 1),b").splitlines()
    text = "\n".join([f"{rows[0]},source,solar_mw", *(f"{row},EIA,-70000" for row in rows[1:])])
    columns = {"A": "Nord Pool (NO 1)", "B": "b"}
    (tmp_path / "forecast.csv").write_text(text, encoding="utf-8")
    signal = {"kind": "file", "file": "forecast.csv", "columns": columns}
    file = scenario(tmp_path, {"carbon/columns": columns, "signal": signal}, grid=text)
    found = load(file).simulation
    plain = load(scenario(tmp_path)).simulation
    assert found.actual.grid_zones == ("A", "B")
    assert (found.actual.g_per_kwh == plain.actual.g_per_kwh).all()
    assert set(found.signal.view(found.start)) == {"A", "B"}
    wrong = {"carbon/columns": {"A": "Nord Pool (NO 2)", "C": "b"}}
    assert "unknown grid zone 'C'" in problems(scenario(tmp_path, wrong))["carbon.columns.C"]
    wrong = {"carbon/columns": {"A": "AA"}}
    assert "did you mean 'A'?" in problems(scenario(tmp_path, wrong))["carbon.columns.A"]
    wrong = {"signal": {"kind": "persistence", "columns": {"A": "B"}}}
    assert "columns and hour_ending go with a file" in problems(scenario(tmp_path, wrong))["signal"]


def test_a_forecast_table_that_ends_too_early_is_said(tmp_path):
    rows = grid_csv().splitlines()
    (tmp_path / "forecast.csv").write_text("\n".join(rows[: 1 + 52]), encoding="utf-8")
    signal: dict[str, object] = {"kind": "file", "file": "forecast.csv"}
    notes = load(scenario(tmp_path, {"signal": signal})).notes
    assert any(note.startswith("signal.file: no forecast for 4 of 12 hours") for note in notes)
    signal["hour_ending"] = True
    notes = load(scenario(tmp_path, {"signal": signal})).notes
    assert any(note.startswith("signal.file: no forecast for 6 of 12 hours") for note in notes)
    signal["file"] = "nowhere.csv"
    assert "no such file" in problems(scenario(tmp_path, {"signal": signal}))["signal.file"]
    (tmp_path / "forecast.csv").write_text(grid_csv(zones="A"), encoding="utf-8")
    signal["file"] = "forecast.csv"
    text = problems(scenario(tmp_path, {"signal": signal}))["signal.file"]
    assert "unknown column 'B'; known: A" in text


def test_what_a_run_leaves_unused_is_said(tmp_path):
    late = {"model": "m", "deadline": "2h", "residency": ["mars"]}
    notes = load(scenario(tmp_path, {"workload/generate/classes/0": late})).notes
    assert "workload.generate: deadline is not used: no request is deferred" in notes
    assert "workload: no region has residency mars" in notes


def test_every_pass_gives_the_same_requests(tmp_path):
    found = load(scenario(tmp_path)).simulation.workload
    first, second = (np.concatenate([c.arrival_s for c in found.chunks()]) for _ in range(2))
    assert (first == second).all() and len(first) > 1000
    assert math.isfinite(first.sum()) and (np.diff(first) >= 0).all()


def test_a_carbon_budget_is_refused_rather_than_left_out_in_silence(tmp_path):
    found = problems(scenario(tmp_path, {"carbon_budget": {"per": "fleet", "g_per_day": 1}}))
    assert "is not simulated" in found["carbon_budget"]

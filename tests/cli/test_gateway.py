from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import router.lab.emulator.server
from router.lab.emulator.guard import EmulatorGuard
from router.model import Budget, Request
from router.operator import envoy_check, weather
from router.operator.check import Explained
from router.operator.servers import ServerFindings
from tests.cli.command_line import run
from tests.config.samples import write
from tests.operator.show.test_explanation import explained

# What takes long to import, and what only some configurations need.
NOT_SERVED_WITH = (
    "scipy cffi rich charset_normalizer redis pyarrow duckdb jwt pandas entsoe matplotlib optuna"
)


def test_serve_loads_nothing_that_it_has_no_use_for() -> None:
    code = (
        "import sys\n"
        "from router.app import process\n"
        f"loaded = set('{NOT_SERVED_WITH}'.split()) & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=300, check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_check_summarises_and_repeats_every_note(
    tmp_path: Path, room: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    room.check = lambda path: [f"checked {path.name}"]
    assert run("check", str(write(tmp_path))) == 0
    out = capsys.readouterr().out
    assert "config.yaml: valid" in out
    assert "policy: carbon-first" in out
    assert "note: checked config.yaml" in out


def test_check_asks_the_store_when_told_to(
    tmp_path: Path, room: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    room.check = lambda path: []
    room.check_store = lambda path: f"asked the store of {path.name}"
    assert run("check", str(write(tmp_path))) == 0
    assert "asked the store" not in capsys.readouterr().out
    assert run("check", str(write(tmp_path)), "--store") == 0
    assert "note: asked the store of config.yaml" in capsys.readouterr().out


def test_check_asks_for_weather_when_told_to(
    tmp_path: Path, room: SimpleNamespace, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    room.check = lambda path: []
    monkeypatch.setattr(weather, "check_weather", lambda path: [f"asked for {path.name}"])
    assert run("check", str(write(tmp_path))) == 0
    assert "note: asked" not in capsys.readouterr().out
    assert run("check", str(write(tmp_path)), "--weather") == 0
    assert "note: asked for config.yaml" in capsys.readouterr().out


def test_check_says_what_envoy_does_otherwise_when_told_to(
    tmp_path: Path, room: SimpleNamespace, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    room.check = lambda path: []
    monkeypatch.setattr(
        envoy_check, "envoy_notes", lambda config: [f"of {len(config.fleet.endpoints)}"]
    )
    assert run("check", str(write(tmp_path))) == 0
    assert "note: of " not in capsys.readouterr().out
    assert run("check", str(write(tmp_path)), "--envoy") == 0
    assert "note: of 2" in capsys.readouterr().out


@pytest.mark.parametrize(("unusable", "code"), [([], 0), (["east-0 cannot be reached"], 1)])
def test_check_fails_where_a_server_is_no_use(
    tmp_path: Path,
    room: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    unusable: list[str],
    code: int,
) -> None:
    room.check = lambda path: ["checked"]
    room.server_findings = lambda path: ServerFindings(["asked"], unusable)
    assert run("check", str(write(tmp_path)), "--servers") == code
    captured = capsys.readouterr()
    assert "note: checked" in captured.out and "note: asked" in captured.out
    assert ("servers: east-0 cannot be reached" in captured.err) is bool(unusable)


def test_check_names_every_problem_on_stderr_and_exits_2(
    tmp_path: Path, room: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, {"servr": {}, "server/workers": 0})
    assert run("check", str(path)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{path}: servr: unknown key 'servr'; did you mean 'server'?" in captured.err
    assert f"{path}: server.workers: must be" in captured.err
    assert "Traceback" not in captured.err


def test_serve_passes_its_options_on_and_exits_as_told(
    tmp_path: Path, room: SimpleNamespace
) -> None:
    calls: list[tuple[Path, int | None]] = []

    def serve(path: Path, *, workers: int | None) -> int:
        calls.append((path, workers))
        return 3

    room.serve = serve
    assert run("serve", "c.yaml", "--workers", "2") == 3
    assert run("serve", "c.yaml") == 3
    assert calls == [(Path("c.yaml"), 2), (Path("c.yaml"), None)]


def test_serve_says_at_once_that_it_starts(
    room: SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    said = []

    def serve(path: Path, *, workers: int | None) -> int:
        said.append(capfd.readouterr().err)
        return 0

    room.serve = serve
    assert run("serve", "c.yaml") == 0
    (line,) = said[0].splitlines()
    assert json.loads(line)["message"] == "starting" and json.loads(line)["version"]


def test_explain_builds_the_request(tmp_path: Path, room: SimpleNamespace) -> None:
    calls: list[tuple[Request, float | None]] = []

    def explain(path: Path, request: Request, at: float | None) -> Any:
        calls.append((request, at))
        return Explained(explained(tmp_path, Request("llama-3.1-8b", origin="east")), {}, {})

    room.explain = explain
    options = "--model m --model-version 2 --origin o --tenant t --residency eu,us --ttft-ms 500"
    more = "--input-tokens 10 --max-output-tokens 20 --at 2022-05-14T00:00Z"
    assert run("explain", "c.yaml", *options.split(), *more.split()) == 0
    request, at = calls[0]
    assert at == 1652486400.0
    assert request == Request(
        model="m",
        version="2",
        origin="o",
        tenant="t",
        residency=frozenset({"eu", "us"}),
        budget=Budget(ttft_ms=500.0, explicit=True),
        input_tokens=10.0,
        max_output_tokens=20.0,
    )
    assert run("explain", "c.yaml", "--model", "m") == 0
    assert calls[1][0].budget == Budget()
    assert calls[1][1] is None


@pytest.mark.parametrize("option", ["--input-tokens", "--max-output-tokens"])
@pytest.mark.parametrize("count", ["1e300", "9e18", "1.1e8", "nan", "0.5", "-1"])
def test_explain_refuses_counts_that_no_request_can_have(option: str, count: str) -> None:
    assert run("explain", "c.yaml", "--model", "m", option, count) == 2


def test_explain_prints_a_table_or_json(
    tmp_path: Path, room: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Request("llama-3.1-8b", origin="east")
    room.explain = lambda *_: Explained(explained(tmp_path, request), {}, {})
    assert run("explain", "c.yaml", "--model", "m") == 0
    assert "goes to west-0" in capsys.readouterr().out
    assert run("explain", "c.yaml", "--model", "m", "--json") == 0
    assert json.loads(capsys.readouterr().out)["policy"] == "carbon-first"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--ttft-ms", "-1"], "over 0 ms"),
        (["--ttft-ms", "nan"], "over 0 ms"),
        (["--tpot-ms", "0"], "--tpot-ms: a latency budget"),
        (["--input-tokens", "-3"], "--input-tokens"),
        (["--input-tokens", "inf"], "--input-tokens: token counts lie between"),
        (["--at", "noon"], "is not a time"),
        (["--at", "2022-05-14T00:00"], "append Z"),
    ],
)
def test_explain_refuses_absurd_arguments(
    room: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    part: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run("explain", "c.yaml", "--model", "m", *options) == 2
    assert part in capsys.readouterr().err


def test_demo_and_emulate_run_their_rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    demo = SimpleNamespace(run=lambda *given, **more: calls.append((*given, more)) or 4)
    server = SimpleNamespace(run=lambda *given, **more: calls.append((*given, more)) or 5)
    monkeypatch.setattr(router.lab, "demo", demo, raising=False)
    monkeypatch.setattr("router.lab.emulator.server", server)
    assert run("demo", "--out", str(tmp_path), "--seconds", "10", "--seeds", "3") == 4
    assert run("emulate", "c.yaml") == 5
    assert run("emulate", "c.yaml", "--enable-per-request-metrics") == 5
    given = {"guard": EmulatorGuard(), "tells_times": False}
    assert calls == [
        (tmp_path, 10.0, {"seeds": 3}),
        (Path("c.yaml"), given),
        (Path("c.yaml"), {**given, "tells_times": True}),
    ]


def test_emulate_wants_a_certificate_with_its_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("emulate", "c.yaml", "--tls-cert", str(tmp_path / "a.crt")) == 2
    assert "give --tls-cert and --tls-key together" in capsys.readouterr().err
    assert run("emulate", "c.yaml", "--key-env", "NOT_SET_ANYWHERE") == 2
    assert "NOT_SET_ANYWHERE is not set" in capsys.readouterr().err


def test_demo_over_openai_runs_its_scene_with_a_model_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("router.lab.demo.openai.run", lambda *given: calls.append(given) or 4)
    assert run("demo", "--openai", "--out", str(tmp_path), "--model", "m.gguf") == 4
    assert run("demo", "--openai", "--seconds", "10") == 4
    assert calls == [
        (tmp_path, 60.0, Path("m.gguf")),
        (Path("out/demo-openai"), 10.0, None),
    ]
    assert run("demo", "--model", "m.gguf") == 2
    assert "--openai" in capsys.readouterr().err

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import router.lab.emulator.server
from router import cli
from router.errors import ConfigError, UnknownModelError
from router.model import Budget, Request
from router.operator.check import Explained
from tests.config.samples import write
from tests.operator.show.test_explanation import explained


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    code = exit_.value.code
    return code if isinstance(code, int) else 0


def _called(fake: SimpleNamespace, name: str, *given: Any, **named: Any) -> Any:
    return getattr(fake, name)(*given, **named)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for what the commands call; each test sets what it needs."""
    fake = SimpleNamespace()
    for path in ("operator.check.check", "operator.check.explain", "app.process.serve"):
        _, _, name = path.rpartition(".")
        monkeypatch.setattr(f"router.{path}", partial(_called, fake, name))
    return fake


@pytest.mark.parametrize(("own", "told"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_linear_algebra_gets_one_thread(own: dict[str, str], told: str) -> None:
    """Said before numpy is there, which reads it but once."""
    code = (
        "import os, sys, router.cli.blas; "
        "print(os.environ['OPENBLAS_NUM_THREADS'], 'numpy' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, **own}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{told} False"), done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"carbon-router {router.__version__}\n"


def test_without_a_command_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    captured = capsys.readouterr()
    for command in ("serve", "check", "explain", "zones", "grid", "demo", "emulate", "simulate",
                    "bound", "schema", "tune"):  # fmt: skip
        assert command in captured.out + captured.err


def test_check_summarises_and_repeats_every_note(
    tmp_path: Path, room: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    room.check = lambda path: [f"checked {path.name}"]
    assert run("check", str(write(tmp_path))) == 0
    out = capsys.readouterr().out
    assert "config.yaml: valid" in out
    assert "policy: carbon-first" in out
    assert "note: checked config.yaml" in out


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


def test_wrong_contents_of_a_table_are_the_files_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "grid.csv"
    table.write_text("datetime,DE\n2023-01-01T00:00Z,400\n2023-01-01T01:00Z,much\n")
    assert run("forecast-eval", "--data", str(table), "--train-until", "2023-01-01") == 2
    told = capsys.readouterr().err
    assert "trace_invalid:\ngrid.csv: row 3, column DE" in told


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


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("c.yaml", [("a", "b")]), 2),
        (UnknownModelError("no endpoint serves model 'm'"), 1),
        (PermissionError(13, "Permission denied", "c.sock"), 1),
    ],
)
def test_errors_are_short_and_on_stderr(
    room: SimpleNamespace, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def serve(*_: Any, **__: Any) -> int:
        raise error

    room.serve = serve
    assert run("serve", "c.yaml") == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(error) in captured.err
    assert "Traceback" not in captured.err
    assert len(captured.err.splitlines()) <= 2


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
        (["--input-tokens", "-3"], "--input-tokens"),
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
    demo = SimpleNamespace(run=lambda out, seconds: calls.append((out, seconds)) or 4)
    server = SimpleNamespace(run=lambda path: calls.append(path) or 5)
    monkeypatch.setattr(router.lab, "demo", demo, raising=False)
    monkeypatch.setattr("router.lab.emulator.server", server)
    assert run("demo", "--out", str(tmp_path), "--seconds", "10") == 4
    assert run("emulate", "c.yaml") == 5
    assert calls == [(tmp_path, 10.0), Path("c.yaml")]


def test_the_module_runs_as_a_program_and_help_loads_no_room() -> None:
    code = (
        "import sys\n"
        "from router import cli\n"
        "try:\n"
        "    cli.main(['--help'])\n"
        "except SystemExit as exit_:\n"
        "    heavy = {'numba', 'grpc', 'aiohttp', 'pydantic'} & set(sys.modules)\n"
        "    sys.exit(f'loaded {heavy}' if heavy or exit_.code else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).resolve().parents[1],
    )
    assert done.returncode == 0, done.stderr


def test_zones_lists_ids_as_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("zones", "--grid-zone", "US-CAL-CISO") == 0
    assert "CISO" in capsys.readouterr().out
    assert run("zones", "--provider", "entsoe", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"DE", "SE-SE3"} <= {row["grid_zone"] for row in rows}
    assert all(row["ids"]["entsoe"] for row in rows)


def test_zones_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("zones", "--provider", "weather") == 2
    assert "electricity_maps" in capsys.readouterr().err
    assert run("zones", "--grid-zone", "MARS") == 1


def test_grid_shows_draws_and_prints_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="LOUD: matplotlib is not installed")
    picture = tmp_path / "grid.png"
    assert run("grid", "DE", "DE", "US-CAL-CISO", "--plot", str(picture), "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert [one["grid_zone"] for one in plain] == ["DE", "US-CAL-CISO"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("grid", "DE", "--hours", "6") == 0
    assert "climatology" in capsys.readouterr().out


def test_grid_of_an_unknown_zone_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("grid", "MARS") == 1
    assert "MARS" in capsys.readouterr().err

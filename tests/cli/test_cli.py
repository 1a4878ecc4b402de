from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import router
from router.errors import ConfigError, UnknownModelError
from tests.cli.command_line import run


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"carbon-router {router.__version__}\n"


def test_without_a_command_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    captured = capsys.readouterr()
    for command in ("serve", "check", "explain", "zones", "grid", "demo", "emulate", "simulate",
                    "bound", "defer", "schema", "tune"):  # fmt: skip
        assert command in captured.out + captured.err


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
    # Beside the line that says that it starts.
    assert len(captured.err.splitlines()) <= 3


@pytest.mark.parametrize(
    "command",
    [
        ("ledger", "verify", "{}"),
        ("ledger", "ls", "{}"),
        ("report", "{}", "--month", "2026-11"),
        ("settle", "{}", "--intensities", "measured.csv"),
        ("replay", "{}", "--id", "nobody"),
    ],
)
def test_wrong_data_have_a_reason_and_names_are_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    where = tmp_path / "a\x1b[2Jb"
    where.mkdir()
    assert run(*(one.format(where) for one in command)) == 1
    told = capsys.readouterr().err
    assert told.startswith(("data_invalid:\n", "ledger_missing:\n"))
    assert "\x1b" not in told


def test_names_in_an_error_are_shown_and_not_obeyed(
    room: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    for error in (UnknownModelError("a\x1b[2J\nb"), FileNotFoundError(2, "none", "\udcff\x9b2J")):

        def serve(*_: Any, error: Exception = error, **__: Any) -> int:
            raise error

        room.serve = serve
        assert run("serve", "c.yaml") == 1
        told = capsys.readouterr().err
        assert told.replace("\n", "").isprintable()
        assert type(error) is not UnknownModelError or "a\ufffd[2J\nb" in told


def test_the_module_runs_as_a_program_and_help_loads_no_room() -> None:
    code = (
        "import sys\n"
        "from router import cli\n"
        "try:\n"
        "    cli.main(['--help'])\n"
        "except SystemExit as exit_:\n"
        "    heavy = {'numba', 'grpc', 'aiohttp', 'pydantic', 'rich'} & set(sys.modules)\n"
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

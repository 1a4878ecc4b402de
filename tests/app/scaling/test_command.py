"""Hints to programs: real ones."""

import os
import sys
from pathlib import Path

import pytest

from router.app.scaling.command import Command
from router.config.settings import CommandSettings
from router.errors import HintNotTakenError
from tests.e2e.harness import until

HUGE = b"x" * 1_000_000


def command(code, *arguments, timeout_s=30.0, environ=None):
    argv = (sys.executable, "-I", "-c", code, *arguments)
    return Command(CommandSettings(argv, timeout_s), environ or {"PATH": os.environ["PATH"]})


async def test_a_program_reads_the_hint_and_nothing_of_the_gateways_keys(tmp_path):
    code = (
        "import os, sys; open(sys.argv[1], 'w').write("
        "sys.stdin.read() + sys.argv[2] + ','.join(sorted(os.environ)))"
    )
    where = tmp_path / "told"
    environ = {"PATH": "/bin", "HOME": "/root", "ELECTRICITY_MAPS_KEY": "secret"}
    await command(code, str(where), "$(id)", environ=environ).tell(b"{}")
    told = where.read_text()
    assert told.startswith("{}$(id)") and "HOME" in told and "MAPS" not in told


async def test_one_that_fails_is_told_with_its_last_words():
    code = "import sys; sys.stderr.write('x' * 100_000 + ' no such fleet'); sys.exit(3)"
    with pytest.raises(HintNotTakenError, match=r"code 3: x+ no such fleet$") as caught:
        await command(code).tell(HUGE)
    assert len(str(caught.value)) < 700
    with pytest.raises(HintNotTakenError, match="cannot be started"):
        await Command(CommandSettings(("/no/such",), 1.0), {}).tell(b"{}")


async def test_one_that_reads_nothing_may():
    await command("pass").tell(HUGE)


async def test_one_that_hangs_is_ended_with_what_it_started(tmp_path):
    script = 'sleep 600 & echo $! > "$1"; echo $$ > "$2"; wait'
    files = [str(tmp_path / name) for name in ("child", "itself")]
    argv = ("/bin/sh", "-c", script, "sh", *files)
    with pytest.raises(HintNotTakenError, match=r"took over 2 s"):
        await Command(CommandSettings(argv, 2.0), {"PATH": os.environ["PATH"]}).tell(b"{}")
    for file in files:
        pid = int(Path(file).read_text())

        async def has_ended(pid=pid):
            return not _runs(pid)

        await until(has_ended, "the end of what it started")


async def test_a_server_that_it_leaves_running_goes_on(tmp_path):
    # It holds the program's standard error.
    code = (
        "import subprocess, sys; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        "open(sys.argv[1], 'w').write(str(child.pid)); import os; os._exit(0)"
    )
    await command(code, str(tmp_path / "pid")).tell(b"{}")
    pid = int((tmp_path / "pid").read_text())
    assert _runs(pid)
    os.kill(pid, 9)


def _runs(pid):
    try:
        told = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return told.rpartition(")")[2].split()[0] not in "ZX"

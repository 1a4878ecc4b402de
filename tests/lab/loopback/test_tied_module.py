import os
import subprocess
import sys

MODULE = "router.lab.loopback.tied_module"


def tied(parent: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", MODULE, str(parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_module_runs_with_its_arguments_and_its_exit_code() -> None:
    done = tied(os.getpid(), "platform", "terse")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert tied(os.getpid(), "no_such_module").returncode == 1


def test_without_its_parent_it_ends_at_once() -> None:
    done = tied(1, "platform")
    assert (done.returncode, done.stdout) == (143, "")

"""Children that do not outlive their parent."""

import os
import signal
import subprocess
import sys

CHILD = """
import sys
from router.parent_process import end_with_parent
end_with_parent(int(sys.argv[1]))
print("tied", flush=True)
sys.stdin.read()
"""
PARENT = f"""
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())])
sys.stdin.read()
"""


def started(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_child_ends_when_its_parent_is_killed():
    with started(PARENT) as parent:
        assert parent.stdout.readline() == "tied\n"
        os.kill(parent.pid, signal.SIGKILL)
        # The pipe ends when the last process that could write into it has ended: the child.
        assert parent.stdout.read() == ""


def test_a_child_whose_parent_is_gone_already_does_not_begin():
    with started(CHILD, "1") as child:
        assert child.stdout.read() == ""
        assert child.wait() == 128 + signal.SIGTERM

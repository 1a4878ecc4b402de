"""Commands of the product as processes that need not import it: forked from one that has.

A start is two seconds of processor time, nearly all of it imports, and tests start hundreds. What
is forked runs the command from its first line on, with files, environment, signals and process
number of its own; only the modules are there already. What is to be seen of a start from nothing
(`fresh` in `harness`) is not for this.
"""

import contextlib
import gc
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

# Read when something is imported: who sets one of them gets a process of its own.
_READ_AT_IMPORT = ("PYTHON", "LD_", "NUMBA_", "OPENBLAS_", "MKL_", "MALLOC_")
_MOST_BYTES = 1 << 17
_SERVER = "from tests.e2e.preloaded import serve; serve({fd})"
_MODULES = (
    "router.cli", "router.app.process", "router.lab.emulator.server", "router.lab.emulator.guard",
)  # fmt: skip


class Process:
    """As `subprocess.Popen`, as far as tests use it."""

    def __init__(self, pid, status):
        self.pid = pid
        self.returncode = None
        self._status = status

    def poll(self):
        return self._look(0.0)

    def wait(self, timeout=None):
        if self._look(timeout) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return self.returncode

    def _look(self, timeout):
        if self.returncode is None:
            ready, _, _ = select.select([self._status], [], [], timeout)
            if ready:
                self.returncode = int(os.read(self._status, 16))
                os.close(self._status)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Preloaded:
    """The process that has imported everything, started when it is first asked for. Threads may
    share it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._link = None
        self._server = None
        self._environment = {}

    def start(self, arguments, cwd, out, environment):
        """A process of ``router.cli``, or None where it has to be one of its own; ``out``: a file,
        for what it writes."""
        with self._lock:
            if self._link is None:
                self._begin(cwd)
            if _imported_by(environment) != _imported_by(self._environment):
                return None
            status, told = os.pipe()
            order = {"arguments": arguments, "cwd": str(cwd), "environment": environment}
            try:
                socket.send_fds(self._link, [json.dumps(order).encode()], [out.fileno(), told])
            finally:
                os.close(told)
            return Process(int(self._link.recv(16)), status)

    def _begin(self, cwd):
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._environment = dict(os.environ)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-c", _SERVER.format(fd=theirs.fileno())],
                cwd=cwd, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip


def _imported_by(environment):
    return {key: value for key, value in environment.items() if key.startswith(_READ_AT_IMPORT)}


PRELOADED = Preloaded()


def serve(fd):
    """Fork a process for each order, and say how it ended; until there are no more."""
    before = dict(os.environ)
    for module in _MODULES:
        __import__(module)
    # As of `-m`: workers that are spawned do not run this here once more.
    sys.modules["__main__"].__spec__ = importlib.util.find_spec("router.cli.__main__")
    gc.collect()
    gc.freeze()
    order = _until_forked(socket.socket(fileno=fd))
    if order is not None:
        _become(order, before)


def _until_forked(link):
    """What a child is to be, in the child; None in the parent, at the end."""
    ended, wakes = socket.socketpair()
    for end in (ended, wakes):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    told = {}
    while True:
        ready, _, _ = select.select([link, ended], [], [])
        if ended in ready:
            ended.recv(4096)
            _tell_ended(told)
        if link not in ready:
            continue
        message, fds, _, _ = socket.recv_fds(link, _MOST_BYTES, 2)
        if not message:
            return None
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return json.loads(message), fds
        os.close(fds[0])
        told[pid] = fds[1]
        link.send(b"%d" % pid)


def _tell_ended(told):
    for pid in list(told):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            with contextlib.suppress(BrokenPipeError):
                os.write(told[pid], b"%d" % os.waitstatus_to_exitcode(status))
            os.close(told.pop(pid))


def _become(order, before):
    """Run the command; what is left of the process that it was forked from is its modules."""
    wanted, fds = order
    for number in (1, 2):
        os.dup2(fds[0], number)
    os.closerange(3, 1 << 16)
    os.chdir(wanted["cwd"])
    # What was set by importing stays.
    for key in before.keys() - wanted["environment"].keys():
        os.environ.pop(key, None)
    os.environ.update(wanted["environment"])
    cli = sys.modules["router.cli"]
    sys.argv = [str(Path(cli.__file__).with_name("__main__.py")), *wanted["arguments"]]
    cli.main()

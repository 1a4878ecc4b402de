"""The module's own C behind ctypes: what Envoy calls, without Envoy."""

import ctypes
import fcntl
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from router.core import kernel_rows as k
from router.planes.envoy import module

HERE = Path(__file__).parent

missing = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None or importlib.util.find_spec("envoy") is None,
    reason="NOT TESTED: Envoy's plane, since carbon-router[envoy] is not installed",
)


class Found(ctypes.Structure):
    _fields_ = (
        ("row", ctypes.c_int64),
        ("before", ctypes.c_double * 8),
        ("first_row", ctypes.c_int64),
        ("after", ctypes.c_double * 4),
    )

    def values(self):
        return (self.row, *self.before, self.first_row, *self.after)


class Columns(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n", "rows", "regions")),
        *(
            (name, ctypes.c_void_p)
            for name in ("table", "live", "labels", "starts", "cached", "scratch")
        ),
    )


class Question(ctypes.Structure):
    _fields_ = (
        ("rtt_row", ctypes.c_int64),
        ("figures", ctypes.c_double * 7),
        ("residency", ctypes.c_int64),
        ("times", ctypes.c_double * 2),
    )


def built(folder):
    """The shared library of the module and of host.c, which one of the workers builds."""
    target = folder / "host.so"
    with (folder / "host.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _build(target)
    return Host(ctypes.CDLL(str(target)))


def _build(target):
    to_envoy = {"filter.c", "refuse.c", "answer.c", "ending.c", "unused.c"}
    sources = sorted(one for one in module.SOURCE.glob("*.c") if one.name not in to_envoy)
    module.build(target, [*sources, HERE / "host.c"])


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    return built(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


class Host:
    def __init__(self, library):
        self.library = library
        library.host_obstacle.restype = ctypes.c_int64
        for one in (library.host_scan, library.host_caller, library.host_refusal):
            one.restype = ctypes.c_char_p

    def scan(self, is_chat, body):
        """(error, model, input tokens, most output tokens, prompt bytes, streams, sequence)."""
        figures, flags = (ctypes.c_double * 3)(), (ctypes.c_int * 2)()
        model = ctypes.create_string_buffer(4096)
        error = self.library.host_scan(
            int(is_chat), body, ctypes.c_size_t(len(body)), figures, flags, model,
            ctypes.c_size_t(len(model)),
        )  # fmt: skip
        return (error, model.value, *figures, *map(bool, flags))

    def caller(self, key, value):
        """(reason that it is refused for, budgets, origin) of one header."""
        figures, origin = (ctypes.c_double * 3)(), ctypes.create_string_buffer(128)
        reason = self.library.host_caller(key.encode(), value.encode(), figures, origin)
        return reason.decode(), tuple(figures), origin.value.decode()

    def refusals(self):
        """(reason, gRPC code, HTTP status) of each, in order."""
        codes, found = (ctypes.c_int * 2)(), []
        while (reason := self.library.host_refusal(len(found), codes)) is not None:
            found.append((reason.decode(), *codes))
        return found

    def layout(self):
        sizes = (ctypes.c_uint64 * 21)()
        self.library.host_layout(sizes)
        return list(sizes)

    def choose(self, table, live, labels, starts, params, *asked):
        """As `router.core.kernel.choose`."""
        *scalars, cached, draw, scratch = asked
        columns = _columns(table, live, labels, starts, cached, scratch)
        found, question = Found(), _question(scalars)
        self.library.host_choose(
            ctypes.byref(found), ctypes.byref(columns), pointer(params), ctypes.byref(question),
            ctypes.c_double(draw),
        )  # fmt: skip
        return found.values()

    def obstacle(self, table, live, labels, starts, params, *asked):
        """As `evaluate` and `obstacle`: the reason, and all terms and reasons."""
        *scalars, cached = asked
        n = table.shape[1]
        terms, reasons = np.empty((n, k.EVALUATED)), np.empty(n, np.int64)
        columns = _columns(table, live, labels, starts, cached, np.empty(0))
        why = self.library.host_obstacle(
            ctypes.byref(columns), pointer(params), ctypes.byref(_question(scalars)),
            pointer(terms), pointer(reasons),
        )  # fmt: skip
        return why, terms, reasons


def _columns(table, live, labels, starts, cached, scratch):
    return Columns(
        table.shape[1], table.shape[0], len(starts) - 1,
        *(array.ctypes.data for array in (table, live, labels, starts, cached, scratch)),
    )  # fmt: skip


def _question(scalars):
    rtt_row, *rest = scalars
    return Question(
        int(rtt_row), (ctypes.c_double * 7)(*rest[:7]), int(rest[7]),
        (ctypes.c_double * 2)(*rest[8:]),
    )  # fmt: skip

"""The module's own C behind ctypes: what Envoy calls, without Envoy."""

import ctypes
import importlib.util
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
    """The shared library of the module and of host.c."""
    target = folder / "host.so"
    module.build(target, [*sorted(module.SOURCE.glob("kernel.c")), HERE / "host.c"])
    return Host(ctypes.CDLL(str(target)))


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


class Host:
    def __init__(self, library):
        self.library = library
        library.host_obstacle.restype = ctypes.c_int64

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

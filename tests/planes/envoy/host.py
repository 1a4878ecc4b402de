"""The module's own C behind ctypes: what Envoy calls, without Envoy."""

import ctypes
import fcntl
import importlib.util
import os
import threading
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
    to_envoy = {"filter.c", "refuse.c", "answer.c", "ending.c", "asking.c", "charge.c", "unused.c"}
    sources = sorted(one for one in module.SOURCE.glob("*.c") if one.name not in to_envoy)
    module.build(target, [*sources, module.SOURCE / "keys" / "keys.c", HERE / "host.c"])


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
        for one in (library.host_known, library.host_slots, library.host_keys):
            one.restype = ctypes.c_void_p
        library.host_read_tables.restype = ctypes.c_uint64
        library.host_most_ug.restype = ctypes.c_int64
        for one in (library.host_scan, library.host_caller, library.host_refusal):
            one.restype = ctypes.c_char_p

    def scan(self, is_chat, body):
        """(error, model, input tokens, most output tokens, prompt bytes, streams, passed on)."""
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

    def is_misspelt(self, key):
        return bool(self.library.host_is_misspelt(key.encode(), ctypes.c_size_t(len(key))))

    def pattern_is_of(self, pattern, name):
        at, of = pattern.encode(errors="surrogatepass"), name.encode(errors="surrogatepass")
        size = ctypes.c_size_t
        return bool(self.library.host_pattern_is_of(at, size(len(at)), of, size(len(of))))

    def decimal(self, value, places):
        text = ctypes.create_string_buffer(512)
        length = self.library.host_decimal(
            ctypes.c_double(value), places, text, ctypes.c_size_t(len(text))
        )
        return text.raw[:length].decode()

    def refusals(self):
        """(reason, gRPC code, HTTP status) of each, in order."""
        codes, found = (ctypes.c_int * 2)(), []
        while (reason := self.library.host_refusal(len(found), codes)) is not None:
            found.append((reason.decode(), *codes))
        return found

    def layout(self):
        sizes = (ctypes.c_uint64 * 33)()
        self.library.host_layout(sizes)
        return list(sizes)

    def sha256(self, data, at):
        """Of ``data``, put in as two pieces."""
        digest = (ctypes.c_ubyte * 32)()
        size = ctypes.c_size_t
        self.library.host_sha256(data, size(len(data)), size(at), digest)
        return bytes(digest)

    def digest(self, key, value, with_credentials=True):
        """(what a call with one header is known by, whether that says who calls)."""
        digest = (ctypes.c_ubyte * 32)()
        is_credential = self.library.host_digest(
            key.encode(), value.encode("latin-1"), int(with_credentials), digest
        )
        return bytes(digest), bool(is_credential)

    def is_secret(self, key, value=""):
        return bool(self.library.host_is_secret(key.encode(), value.encode("latin-1")))

    def most_ug(self, run, asked, g_per_kwh, pue):
        """Of ``asked``: tokens of the prompt, of the answer on the mean and at the quantile, joules
        of network, and requests that are there."""
        figures = (ctypes.c_double * 5)(*asked)
        return self.library.host_most_ug(
            ctypes.byref(run), figures, ctypes.c_double(g_per_kwh), ctypes.c_double(pue)
        )

    def keys(self, path):
        """A function that looks for the (header, value) of an address, None where there is none."""
        file = ctypes.c_void_p(self.library.host_keys(str(path).encode()))

        def key_of(address):
            texts, room = ctypes.create_string_buffer(512), 256
            if not self.library.host_key(file, address.encode(), texts, ctypes.c_size_t(room)):
                return None
            ends = (texts.raw[at : at + room].partition(b"\0")[0].decode() for at in (0, room))
            return tuple(ends)

        return key_of

    def read_while_written(self, words, tables):
        """How many tables of a worker's were wrong, of ``tables`` that are written meanwhile."""
        shared = ctypes.c_void_p(self.library.host_slots(ctypes.c_uint64(words)))
        sizes = ctypes.c_uint64(words), ctypes.c_uint64(tables)
        writing = threading.Thread(target=self.library.host_write_tables, args=(shared, *sizes))
        writing.start()
        wrong = self.library.host_read_tables(shared, *sizes)
        writing.join()
        return wrong

    def known(self, path):
        """The file of callers as Envoy has it."""
        return KnownHost(self.library, self.library.host_known(str(path).encode()))

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


class KnownHost:
    """A mapped file of callers."""

    def __init__(self, library, file):
        self.library = library
        self.file = ctypes.c_void_p(file)

    def find(self, digest, now_s=0.0, model=""):
        """(tenant, origin, residency, row of use, whether ``model`` may be used), or None."""
        names, figures = ctypes.create_string_buffer(256), (ctypes.c_int64 * 2)()
        may = self.library.host_find(
            self.file, digest, ctypes.c_double(now_s), names, figures, model.encode()
        )
        if may < 0:
            return None
        texts = (names.raw[at : at + 128].partition(b"\0")[0].decode() for at in (0, 128))
        return (*texts, *figures, bool(may))

    def holds(self, now_s):
        return bool(self.library.host_known_holds(self.file, ctypes.c_double(now_s)))

    def begin(self, row, now_s):
        return self._waits(self.library.host_use_begin, row, _ns(now_s))

    def reserve(self, row, tokens, now_s):
        return self._waits(self.library.host_use_reserve, row, ctypes.c_double(tokens), _ns(now_s))

    def leave(self, row):
        self.library.host_use_leave(self.file, ctypes.c_int64(row))

    def undo(self, row):
        self.library.host_use_undo(self.file, ctypes.c_int64(row))

    def give_back(self, row, tokens):
        self.library.host_use_give_back(self.file, ctypes.c_int64(row), ctypes.c_double(tokens))

    def claim(self, row, table, ask_ug):
        """(whether it is let in, whether the day has room)."""
        held = ctypes.c_int(0)
        is_in = self.library.host_claim(
            self.file, ctypes.c_int64(row), table, ctypes.c_int64(ask_ug), ctypes.byref(held)
        )
        return bool(is_in), bool(held.value)

    def _waits(self, function, row, *given):
        """(what of it is used up, seconds to wait)."""
        wait_s = ctypes.c_double(0.0)
        used = function(self.file, ctypes.c_int64(row), *given, ctypes.byref(wait_s))
        return used, wait_s.value


def _ns(seconds):
    return ctypes.c_int64(round(seconds * 1e9))


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

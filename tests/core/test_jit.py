"""Machine code on disk is used for as long as every source that it was made of is the same."""

import errno
import fcntl
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from router.core import jit, kernel
from router.lab.sim.engine import loop
from router.lab.sim.fluid import fill

FILES = {
    "__init__": "",
    "figure": "FIGURE = 1\n",
    "called": (
        "from .figure import FIGURE\n"
        "from router.core.jit import inlined\n"
        "\n\n@inlined\ndef called():\n    return FIGURE\n"
    ),
    "asked": (
        "from router.core.jit import cached, entry\n"
        "from tiny.called import (\n    called,\n)\n"
        "\n\n@entry('i8()')\ndef asked():\n    return called()\n"
        "\n\n@cached\ndef later():\n    return called()\n"
    ),
    "beside": "FIGURE = 3\n",
    "alone": "from router.core.jit import cached\n\n\n@cached\ndef alone():\n    return 1\n",
    "wrong": "from router.core.jit import cached\n\n\n@cached\ndef wrong():\n    return {}.no\n",
}

# A process that says when it asks for the lock and when it has it, and then waits for a line.
PROCESS = """
import fcntl
flock = fcntl.flock
def told(lock, how):
    if how == fcntl.LOCK_EX:
        print("asks", flush=True)
    flock(lock, how)
    if how == fcntl.LOCK_EX:
        print("has it", flush=True)
        input()
fcntl.flock = told
from tiny.alone import alone
print(alone(), sum(alone.stats.cache_hits.values()), flush=True)
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Folder of a package of two entry points, one function within them and its constant."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    forget()


def forget():
    """As in a new process."""
    for name in [one for one in sys.modules if one.partition(".")[0] == "tiny"]:
        del sys.modules[name]
    jit._source.cache_clear()
    jit.source_stamp.cache_clear()
    importlib.invalidate_caches()


def loaded():
    """(figure, whether its code was read from disk) of both entry points."""
    forget()
    module = importlib.import_module("tiny.asked")
    return [
        (function(), sum(function.stats.cache_hits.values()) == 1)
        for function in (module.asked, module.later)
    ]


def test_what_is_unchanged_is_read_from_disk(tiny):
    assert loaded() == [(1, False)] * 2
    assert loaded() == [(1, True)] * 2
    # Nothing of this is in it.
    (tiny / "beside.py").write_text("FIGURE = 4\n")
    assert loaded() == [(1, True)] * 2


@pytest.mark.parametrize(
    ("name", "old", "new", "figure"),
    [
        ("figure", "FIGURE = 1", "FIGURE = 22", 22),
        ("called", "return FIGURE", "return FIGURE + 1", 2),
        ("asked", "return called()", "return called() + 2", 3),
    ],
)
def test_an_edit_of_any_source_compiles_anew(tiny, name, old, new, figure):
    loaded()
    path = tiny / f"{name}.py"
    path.write_text(path.read_text().replace(old, new))
    assert loaded() == [(figure, False)] * 2
    assert loaded() == [(figure, True)] * 2
    # Old code is written over, and does not gather.
    assert len(list((tiny / "__pycache__").glob("*.nbc"))) == 2


def test_where_the_code_lies_is_for_numba_to_say(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "elsewhere"))
    loaded()
    assert loaded() == [(1, True)] * 2
    assert not (tiny / "__pycache__").exists()
    (tiny / "figure.py").write_text("FIGURE = 22\n")
    assert loaded() == [(22, False)] * 2


@pytest.fixture
def process(tiny):
    """Starts one that compiles `alone`, given a line once it has the lock; all are reaped."""
    started = []
    paths = os.pathsep.join([str(tiny.parent), str(Path(__file__).parents[2])])

    def start():
        one = subprocess.Popen(
            [sys.executable, "-c", PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()
        one.communicate()


def says(process):
    return process.stdout.readline().strip()


def test_of_processes_at_once_one_compiles_and_others_read_what_it_made(process):
    first = process()
    assert [says(first), says(first)] == ["asks", "has it"]
    second = process()
    assert says(second) == "asks"
    assert first.communicate("\n", timeout=100)[0].strip() == "1 0"
    assert says(second) == "has it"
    assert second.communicate("\n", timeout=100)[0].strip() == "1 1"
    # Who finds it on disk asks for nothing.
    assert process().communicate("", timeout=100)[0].strip() == "1 1"


def test_one_that_dies_while_it_compiles_leaves_it_to_the_next(process):
    first = process()
    assert [says(first), says(first)] == ["asks", "has it"]
    second = process()
    assert says(second) == "asks"
    first.kill()
    assert says(second) == "has it"
    assert second.communicate("\n", timeout=100)[0].strip() == "1 0"


def locks(folder):
    return list((folder / "__pycache__").glob("*.lock"))


def test_what_cannot_be_compiled_keeps_nobody_waiting(tiny):
    forget()
    wrong = importlib.import_module("tiny.wrong").wrong
    for _ in range(2):
        with pytest.raises(numba.TypingError):
            wrong()
    (path,) = locks(tiny)
    with path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_where_no_lock_can_be_had_everybody_compiles(tiny, monkeypatch):
    def flock(lock, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patched:
        patched.setattr("fcntl.flock", flock)
        assert loaded() == [(1, False)] * 2
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    # What lies there is no file that could be locked.
    (tiny / "figure.py").write_text("FIGURE = 2\n")
    for path in locks(tiny):
        path.unlink()
        path.mkdir()
    assert loaded() == [(2, False)] * 2
    assert loaded() == [(2, True)] * 2


@pytest.mark.parametrize("kept", [kernel.__name__, loop.__name__, fill.__name__])
def test_all_that_a_module_of_kept_code_is_made_of_is_among_its_sources(kept):
    """Modules, functions and classes by what is there; and where constants are."""
    sources = jit.sources_of(kept)
    assert {"router.core.burden", "router.core.jit", "router.units", kept} <= set(sources)
    for source in sources:
        module = sys.modules[source]
        # A package has its modules as attributes, whoever imported them.
        values = () if hasattr(module, "__path__") else vars(module).values()
        for value in values:
            value = getattr(value, "py_func", value)
            origin = getattr(value, "__module__", None) or getattr(value, "__name__", "")
            if str(origin).partition(".")[0] == "router":
                assert origin in sources, (source, value)


def test_packages_are_hidden_for_as_long_as_they_are_to_be_and_only_what_is_not_there_yet():
    # A module of the standard library that nothing here imports.
    assert "this" not in sys.modules
    with jit._hidden("this", "json"):
        with pytest.raises(ImportError):
            importlib.import_module("this")
        assert importlib.import_module("json") is json
    assert "this" not in sys.modules
    assert sys.modules["json"] is json

"""How everything that is compiled is compiled: one set of options, two ways to inline, one cache.

No reference counting: in these loops it costs more than all of the arithmetic. In return nothing
that is compiled can allocate, so callers hand in every array that is written to.

Machine code holds what its function calls and names, whichever file that is in; numba's own cache
looks at the file of the function alone, and would go on with old code when another was edited. So
what is `kept` on disk is compiled anew when any source that it may be made of has changed.

Of processes that start at once one compiles a function, and the others wait and read what it made:
together they would be no sooner done, and take the processor from each other.

A process that finds all on disk spends its start in imports. numba takes in scipy where that is
installed, for products of matrices in compiled code, and cffi, for calls of C: there are neither
here, and so it is not let find them.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, NamedTuple


@contextmanager
def _hidden(*packages: str) -> Iterator[None]:
    """To what is imported meanwhile these are not there, but for what has been imported before."""
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


with _hidden("scipy", "cffi"):
    import numba
    from numba.core.caching import CompileResultCacheImpl, FunctionCache
    from numba.core.registry import cpu_target

    # Everything that it can compile, as it would load it itself at the first function.
    cpu_target.target_context.refresh()

OPTIONS: Final[dict[str, Any]] = {"error_model": "numpy", "_nrt": False}
# The bytes of a message, which nobody may write to; in signatures.
BYTES: Final = "Array(u1, 1, 'C', readonly=True)"
# Without a signature: compiled within whoever calls it.
compiled = numba.njit(**OPTIONS)
inlined = numba.njit(forceinline=True, **OPTIONS)
# Before numba infers types, as if its lines stood there.
inlined_early = numba.njit(inline="always", **OPTIONS)

# What a module imports whenever it is imported: not indented, so neither for type checkers alone
# nor in a function. An import of several names may go over several lines.
_IMPORT = re.compile(
    r"^(?:from\s+([\w.]+)\s+import\s+(\([^)]*\)|.*)|import\s+([\w.]+))", re.MULTILINE
)


@cache
def _source(name: str) -> tuple[bytes, tuple[str, ...]]:
    """(digest, modules of the same distribution that it imports) of the source of a module."""
    module = sys.modules[name]
    # Its loader finds it inside a zip file, too.
    source = module.__loader__.get_data(module.__file__)  # type: ignore[union-attr]
    top = name.partition(".")[0]
    found = []
    for base, names, alone in _IMPORT.findall(source.decode()):
        base = importlib.util.resolve_name(base or alone, module.__package__)
        parts = base.split(".")
        found += [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        # Of a package these may be modules.
        found += [f"{base}.{one}" for one in re.findall(r"\w+", names)]
    mine = (one for one in dict.fromkeys(found) if one in sys.modules)
    return hashlib.sha256(source).digest(), tuple(
        one for one in mine if one.partition(".")[0] == top
    )


def sources_of(name: str) -> tuple[str, ...]:
    """Module ``name`` and those of its distribution that it imports, and so on; by name."""
    found, waiting = {name}, [name]
    while waiting:
        _, imported = _source(waiting.pop())
        waiting += [one for one in imported if one not in found]
        found.update(imported)
    return tuple(sorted(found))


@cache
def source_stamp(name: str) -> str:
    """Of all sources that functions of module ``name`` may be compiled of."""
    digest = hashlib.sha256()
    for one in sources_of(name):
        digest.update(one.encode() + _source(one)[0])
    return digest.hexdigest()


class _SourcesCacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    """numba's, wherever it finds a place for it, and stamped with more than one file."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self.locator.get_source_stamp = lambda: source_stamp(function.__module__)


class _SourcesCache(FunctionCache):  # type: ignore[misc]
    """Whoever finds nothing on disk has the function for itself until `give_way`."""

    _impl_class = _SourcesCacheImpl
    _lock: IO[bytes] | None = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = self._found(sig, target_context)
        # Held already where a function is compiled within itself.
        if found is None and self._lock is None and self._wait():
            found = self._found(sig, target_context)
        return found

    def _found(self, sig: Any, target_context: Any) -> Any:
        """numba's `load_overload` without its `refresh`: what is loaded needs no more than is there
        since this module's import, and to look through all of it takes longer than to load."""
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)

    def _wait(self) -> bool:
        """Until nobody else compiles it. Without a lock (no room, no right to write, a file system
        that has none) everybody compiles for itself."""
        with suppress(OSError), ExitStack() as kept_open:
            self._impl.locator.ensure_cache_path()
            path = Path(self.cache_path, f"{self._impl.filename_base}.lock")
            path.touch(0o600)
            lock = kept_open.enter_context(path.open("rb"))
            # Of the kernel, which lets go of it when its holder dies.
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept_open.pop_all()
            self._lock = lock
        return self._lock is not None

    def give_way(self) -> None:
        if self._lock is not None:
            # Not by closing alone: a process that was forked meanwhile has it open too.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._lock.close()
            self._lock = None


def kept(dispatcher: Any) -> Any:
    """What numba made of a function, compiled at its first call, or read from its cache."""
    # As `enable_caching` does it; under NUMBA_DISABLE_JIT there is but the function.
    if not hasattr(dispatcher, "enable_caching"):
        return dispatcher
    mine = _SourcesCache(dispatcher.py_func)
    compile_it = dispatcher.compile

    def compile_once(signature: Any) -> Any:
        try:
            return compile_it(signature)
        finally:
            # Whether it could be compiled or not.
            mine.give_way()

    dispatcher._cache, dispatcher.compile = mine, compile_once
    return dispatcher


def cached(function: Any) -> Any:
    """Compiled at its first call, or read from its cache."""
    return kept(compiled(function))


def entry(signature: str) -> Any:
    """Compiled when imported, or read from its cache: what plain Python calls too."""

    def compile_now(function: Any) -> Any:
        dispatcher = cached(function)
        if hasattr(dispatcher, "disable_compile"):
            dispatcher.compile(signature)
            dispatcher.disable_compile()
        return dispatcher

    return compile_now


class LlvmFunction(NamedTuple):
    """A compiled function as LLVM has it. ``symbol``: its name in ``assembly``, a module that holds
    all that it calls. It has numba's calling convention: a pointer to the result, one to what was
    raised, then the arguments, of an array each of its fields; it returns 0."""

    symbol: str
    assembly: str


def as_llvm(dispatcher: Any) -> LlvmFunction:
    """What `entry` compiled, for use without Python; compiled anew, since what numba keeps on disk
    is machine code alone. Takes some seconds."""
    (signature,) = dispatcher.signatures
    anew = compiled(dispatcher.py_func)
    anew.compile(signature)
    result = anew.overloads[signature]
    return LlvmFunction(result.fndesc.llvm_func_name, result.library.get_llvm_str())

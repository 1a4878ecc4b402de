"""The module that Envoy loads: the C of ``source/`` and the kernel's objects, linked by zig.

Built at the first start and kept in the user's cache folder under a name of all that it is made of,
so it is built anew whenever one of that changes and never used for another processor. Why not
shipped built: docs/decisions/the-module-is-built-where-it-runs.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from router.errors import EnvoyPlaneError
from router.extras import missing
from router.planes.envoy.emission import kernel_objects, kernel_stamp, rows_header

SOURCE: Final = Path(__file__).parent / "source"
# By which Envoy asks for them: what decides, and what gives servers their keys.
NAME, KEYS_NAME = "carbon_router", "carbon_router_keys"
# Envoy looks for `dynamic_module_config.name` with this around it.
FILE, KEYS_FILE = f"lib{NAME}.so", f"lib{KEYS_NAME}.so"
_OF_KEYS: Final = ("client_keys.c", "unused.c")
# The oldest C library that the machine may have; what numba itself runs on.
_GLIBC: Final = "2.28"
# Others show writes to each other in another order than they were made (source/shared.h).
_TRIPLES: Final = {"x86_64": "x86_64-linux-gnu"}
_BUILD_S: Final = 300.0


def built(environ: Mapping[str, str]) -> Path:
    """The folder that holds the module, built now if it is not there: some 20 s of processor time.

    Raises EnvoyPlaneError where it cannot be built.
    """
    folder = cache_folder(environ) / _stamp()
    if not (folder / FILE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shared = [SOURCE / name for name in _OF_KEYS]
        with _workplace(folder) as work:
            _make(folder / KEYS_FILE, [*sorted((SOURCE / "keys").glob("*.c")), *shared], work)
        build(folder / FILE, sorted(SOURCE.glob("*.c")))
    return folder


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where built modules are kept, by the XDG base directories."""
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "/tmp")) / ".cache")
    return Path(base) / "carbon-router" / "envoy"


def build(target: Path, sources: Sequence[Path]) -> None:
    """Compile ``sources`` with the kernel into the shared library ``target``.

    Raises EnvoyPlaneError.
    """
    with _workplace(target.parent) as work:
        (work / "kernel_rows.h").write_text(rows_header())
        objects = []
        for file, code in kernel_objects().items():
            (work / file).write_bytes(code)
            objects.append(work / file)
        _make(target, [*sources, *objects], work)


@contextlib.contextmanager
def _workplace(beside: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=beside) as name:
        yield Path(name)


def _make(target: Path, inputs: Sequence[Path], work: Path) -> None:
    made = work / target.name
    _link(made, inputs, [work, SOURCE], work)
    # Whoever starts beside us finds all of it or nothing.
    made.replace(target)


def _link(made: Path, inputs: Sequence[Path], includes: Sequence[Path], work: Path) -> None:
    command = [
        str(_zig()), "cc", "-target", f"{_triple()}.{_GLIBC}", "-std=gnu11", "-O2", "-fPIC",
        "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror",
        *(f"-I{folder}" for folder in includes), "-o", str(made), *map(str, inputs), "-lm",
    ]  # fmt: skip
    # Its own cache would be ten times what it makes.
    kept = {"ZIG_GLOBAL_CACHE_DIR": str(work / "zig"), "ZIG_LOCAL_CACHE_DIR": str(work / "zig")}
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_BUILD_S,
            env={**os.environ, **kept},
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise EnvoyPlaneError(f"the module could not be compiled:\n{error.stderr}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvoyPlaneError(f"the module could not be compiled: {error}") from error


def _zig() -> Path:
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        raise EnvoyPlaneError(missing("the module that Envoy loads", "envoy"))
    return Path(found.origin).parent / "zig"


def _triple() -> str:
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in _TRIPLES:
        raise EnvoyPlaneError(
            f"Envoy's plane runs on Linux, x86_64; this is {platform.system()} {machine}"
        )
    return _TRIPLES[machine]


def _stamp() -> str:
    """Of all that the module is made of."""
    digest = hashlib.sha256(kernel_stamp().encode())
    digest.update(f"{_triple()} {_GLIBC} {metadata.version('ziglang')}".encode())
    for path in sorted(SOURCE.rglob("*.[ch]")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:32]

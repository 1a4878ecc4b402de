"""The files of the image and no others: Python, the gateway, the C libraries that they load.

    python docker/rootfs.py ENVIRONMENT TARGET

run where ENVIRONMENT (a virtual environment) is installed, fills the folder TARGET. No shell,
package manager, compiler, pip or tests are among them. Which libraries are loaded is asked of
`ldd`; which Debian packages they are of stays in var/lib/dpkg/status.d, where scanners of images
look.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

# Of the standard library: what installs, draws windows, or is for people who write Python.
LIBRARY_LEFT_OUT = (
    "config",
    "curses",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tkinter",
    "turtledemo",
)
# And what is compiled of it for those, or for what the gateway has no use for.
MODULES_LEFT_OUT = (
    "_crypt",
    "_curses",
    "_curses_panel",
    "_dbm",
    "_gdbm",
    r"_test\w*",
    "_tkinter",
    "_xxtestfuzz",
    "nis",
    "ossaudiodev",
    "readline",
    r"xxlimited\w*",
)
# Of the environment: what installs.
PACKAGES_LEFT_OUT = (
    "_distutils_hack",
    "distutils-precedence",
    "pip",
    "pkg_resources",
    "setuptools",
    "wheel",
)
# Of packages, by folder: their own tests, what is compiled against, and threads of libraries that
# are not there.
PARTS_LEFT_OUT = {
    "numba": ("tests",),
    "ufunc": ("omppool", "tbbpool"),
    "pyarrow": ("include", "src", "tests"),
}
PROGRAMS = ("carbon-router",)
USER_ID = 65532
ACCOUNTS = {
    "etc/passwd": f"root:x:0:0::/:/none\ncarbon:x:{USER_ID}:{USER_ID}::/tmp:/none\n",
    "etc/group": f"root:x:0:\ncarbon:x:{USER_ID}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
# Where they are: authorities of TLS, time zones, and the folders of libraries.
SYSTEM = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/openssl.cnf",
    "/usr/share/zoneinfo",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
)
# Whose files are made when it is installed, so that dpkg does not know them.
ALSO_OF = ("ca-certificates",)
ELF = b"\x7fELF"


def left_out(folder: str, names: Iterable[str]) -> set[str]:
    """What of the standard library or of an environment's packages the image does without."""
    at = Path(folder)
    unwanted: tuple[str, ...] = ()
    if at == Path(sysconfig.get_path("stdlib")):
        unwanted = LIBRARY_LEFT_OUT
    elif at.name == "lib-dynload":
        unwanted = MODULES_LEFT_OUT
    elif at.name == "site-packages":
        unwanted = PACKAGES_LEFT_OUT
    elif at.name in PARTS_LEFT_OUT and "site-packages" in at.parts:
        unwanted = PARTS_LEFT_OUT[at.name]
    # config-3.11-x86_64-linux-gnu, readline.cpython-311-x86_64-linux-gnu.so, pip-24.0.dist-info.
    matching = re.compile(rf"({'|'.join((*unwanted, '__pycache__'))})([-.].*)?")
    return {name for name in names if matching.fullmatch(name)}


def copy(path: Path, target: Path) -> None:
    """One file, link or folder to the same place under ``target``, with its time and mode."""
    at = target / path.parent.resolve().relative_to("/") / path.name
    at.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, at, symlinks=True, ignore=left_out, dirs_exist_ok=True)
    else:
        shutil.copy2(path, at, follow_symlinks=False)


def interpreter() -> Iterator[Path]:
    """The files of this Python: its program under all its names, library and shared object."""
    base = Path(sys.base_prefix)
    version = sysconfig.get_python_version()
    yield from (base / "bin" / name for name in ("python", "python3", f"python{version}"))
    yield base / "lib" / f"python{version}"
    yield from (base / "lib").glob(f"libpython{version}.so*")


def environment(folder: Path) -> Iterator[Path]:
    """The files of a virtual environment that run the gateway."""
    yield folder / "pyvenv.cfg"
    yield folder / "lib"
    programs = {*PROGRAMS, "python", "python3", f"python{sysconfig.get_python_version()}"}
    yield from (path for path in (folder / "bin").iterdir() if path.name in programs)


def is_elf(path: Path) -> bool:
    """Whether a file is a program or a shared object."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(ELF)) == ELF


def libraries(files: Iterable[Path]) -> set[Path]:
    """What ELF ``files`` load that is not among them: the system's libraries, and its loader.

    Raises FileNotFoundError where one is nowhere.
    """
    own = list(files)
    # Wheels bundle libraries that find each other once the first of them is loaded.
    names, places = {path.name for path in own}, {path.resolve() for path in own}
    found: set[Path] = set()
    for path in own:
        done = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            name, _, rest = line.strip().partition(" => ")
            if rest.startswith("not found") and name not in names:
                raise FileNotFoundError(f"{path} loads {name}, which is not there")
            at = (rest or name).partition(" (")[0]
            if at.startswith("/") and Path(at).resolve() not in places:
                found.add(Path(at))
    return found


def copy_library(path: Path, target: Path) -> None:
    """A library under the name that it is loaded by; the folders that are links here are there."""
    for top in ("lib", "lib64"):
        link = Path("/") / top
        if link.is_symlink() and not (target / top).is_symlink():
            (target / top).symlink_to(link.readlink())
    at = target / path.parent.resolve().relative_to("/") / path.name
    at.parent.mkdir(parents=True, exist_ok=True)
    if not at.exists():
        shutil.copy2(path.resolve(), at)


def packages(files: Iterable[Path]) -> set[str]:
    """The Debian packages that ``files`` are of."""
    names: set[str] = set()
    for path in files:
        # Under either name of a folder that is a link: packages say the one or the other.
        for known_as in {str(path), str(path.resolve()), str(path.resolve()).removeprefix("/usr")}:
            done = subprocess.run(
                ["dpkg-query", "--search", known_as], capture_output=True, text=True, check=False
            )
            for line in done.stdout.splitlines():
                # Several have a folder in common.
                names.update(line.partition(": ")[0].split(", "))
    return {name for name in names if not name.startswith("diversion")}


def record(names: Iterable[str], target: Path) -> None:
    """What dpkg knows of packages, one file each, and their terms, as scanners expect."""
    folder = target / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(names):
        said = subprocess.run(
            ["dpkg-query", "--status", name], capture_output=True, text=True, check=True
        ).stdout
        plain = name.partition(":")[0]
        (folder / plain).write_text(said, encoding="utf-8")
        terms = Path("/usr/share/doc") / plain / "copyright"
        if terms.exists():
            copy_library(terms, target)


def index(target: Path) -> None:
    """Have the loader find libraries where only its cache names their folder: python's own in
    /usr/local/lib, of a python that was built without its place in it."""
    program = shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if program is not None:
        subprocess.run([program, "-r", str(target)], check=True)


def fill(venv: Path, target: Path) -> None:
    """Everything of the image, under ``target``."""
    for path in (*interpreter(), *environment(venv)):
        if path.exists():
            copy(path, target)
    # Asked where they are installed: what a library loads is found beside it.
    originals = (Path("/") / path.relative_to(target) for path in target.rglob("*"))
    loaded = libraries(path for path in originals if is_elf(path))
    for path in loaded:
        copy_library(path, target)
    system = [Path(name) for name in SYSTEM if Path(name).exists()]
    for path in system:
        copy(path, target)
    record({*packages([*loaded, *system]), *ALSO_OF}, target)
    for name, text in ACCOUNTS.items():
        at = target / name
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text, encoding="utf-8")
    index(target)
    (target / "tmp").mkdir(exist_ok=True)
    (target / "tmp").chmod(0o1777)


if __name__ == "__main__":
    fill(Path(sys.argv[1]), Path(sys.argv[2]))

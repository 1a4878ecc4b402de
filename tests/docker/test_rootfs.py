"""What docker/rootfs.py takes into the image, on this machine's own Python."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

DOCKER = Path(__file__).parents[2] / "docker"

pytestmark = pytest.mark.skipif(
    shutil.which("ldd") is None, reason="LOUD: no ldd here, what the image takes was not tried"
)


@pytest.fixture
def rootfs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DOCKER))
    import rootfs

    return rootfs


def test_what_installs_is_left_out(rootfs: Any) -> None:
    packages = "/opt/carbon-router/lib/python3.11/site-packages"
    names = ["pip", "pip-24.0.dist-info", "setuptools", "distutils-precedence.pth", "pipeline"]
    assert rootfs.left_out(packages, [*names, "router"]) == set(names[:-1])
    library = sysconfig.get_path("stdlib")
    names = ["ensurepip", "tkinter", f"config-{sysconfig.get_python_version()}-x86_64", "asyncio"]
    assert rootfs.left_out(library, names) == set(names[:-1])
    compiled = ["readline.cpython-311-x86_64-linux-gnu.so", "_ssl.cpython-311-x86_64-linux-gnu.so"]
    assert rootfs.left_out(f"{library}/lib-dynload", compiled) == {compiled[0]}


def test_what_the_gateway_imports_is_there(rootfs: Any) -> None:
    trees = (ast.parse(path.read_bytes()) for path in (DOCKER.parent / "router").rglob("*.py"))
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    imported = {module.partition(".")[0] for module in modules}
    assert "sqlite3" in imported
    assert not rootfs.left_out(sysconfig.get_path("stdlib"), imported)


def test_the_interpreter_brings_its_loader_and_c_library(rootfs: Any) -> None:
    program = Path(sys.executable).resolve()
    assert rootfs.is_elf(program)
    names = {path.name for path in rootfs.libraries([program])}
    assert any(name.startswith("libc.") for name in names)
    assert any(name.startswith("ld-") for name in names)


def test_a_library_that_is_nowhere_stops_the_build(
    rootfs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "\tlibgone.so.1 => not found\n\tlibbeside.so.2 => not found\n"
    monkeypatch.setattr(
        rootfs.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, said, "")
    )
    beside = [Path("/opt/libbeside.so.2"), Path("/opt/libgone.so.1")]
    assert rootfs.libraries(beside) == set()
    with pytest.raises(FileNotFoundError, match="libgone"):
        rootfs.libraries(beside[:1])


def test_an_environment_gives_its_packages_and_one_program(rootfs: Any, tmp_path: Path) -> None:
    environment, target = tmp_path / "environment", tmp_path / "image"
    packages = environment / "lib" / "python3.11" / "site-packages"
    for name in ("router/__init__.py", "pip/__init__.py", "router/__pycache__/x.pyc"):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).touch()
    (environment / "bin").mkdir()
    for name in ("python", "pip", "activate", "carbon-router", "fastapi"):
        (environment / "bin" / name).touch()
    (environment / "pyvenv.cfg").touch()
    for path in rootfs.environment(environment):
        rootfs.copy(path, target)
    kept = target / environment.resolve().relative_to("/")
    assert {path.name for path in (kept / "bin").iterdir()} == {"python", "carbon-router"}
    files = {path.name for path in kept.rglob("*") if path.is_file()}
    assert files == {"__init__.py", "pyvenv.cfg", "python", "carbon-router"}
    assert not (kept / packages.relative_to(environment) / "pip").exists()


def test_a_folder_may_be_of_several_packages(rootfs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "libc6:amd64, libc-bin: /etc/ld.so.conf.d\n"
    monkeypatch.setattr(
        rootfs.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, said, "")
    )
    assert rootfs.packages([Path("/etc/ld.so.conf.d")]) == {"libc6:amd64", "libc-bin"}

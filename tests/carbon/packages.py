"""Distributions as pip leaves them: a module and a dist-info folder on the path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def install(site: Path, patch: pytest.MonkeyPatch, package: str, code: str, points: str) -> None:
    """Put ``package``, one module with ``code`` and the entry points ``points``, into ``site``.

    Path and imported modules are restored at the end of the test.
    """
    site.mkdir(exist_ok=True)
    (site / f"{package}.py").write_text(code, encoding="utf-8")
    told = site / f"{package}-1.0.dist-info"
    told.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
    (told / "METADATA").write_text(metadata, encoding="utf-8")
    (told / "entry_points.txt").write_text(points, encoding="utf-8")
    patch.setitem(sys.modules, package, sys)
    patch.delitem(sys.modules, package)
    patch.syspath_prepend(site)

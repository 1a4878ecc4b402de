"""Which code decided: the version, and a digest of the files that a decision is made of."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import router

# What `decide` runs through; all else leads to it, or away from it.
_FILES = ("core/*.py", "model/*.py", "units.py")
_DIGITS = 12


@cache
def code_version() -> str:
    """``0.1.0+0123456789ab``; the version alone where the files cannot be read."""
    root = Path(router.__file__).parent
    digest = hashlib.sha256()
    try:
        for path in sorted(path for pattern in _FILES for path in root.glob(pattern)):
            digest.update(f"{path.relative_to(root)}\n".encode())
            digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    except OSError:
        return router.__version__
    return f"{router.__version__}+{digest.hexdigest()[:_DIGITS]}"

"""The optional parts of the package, and how their absence is told."""

from __future__ import annotations

from typing import Final

# Extra -> what it is said to need; as in pyproject.toml, which a test compares.
EXTRAS: Final = {
    "parquet": "pyarrow",
    "plots": "matplotlib",
    "entsoe": "entsoe-py",
    "sim": "scipy and optuna",
    "ray": "ray",
}


def missing(what: str, extra: str, otherwise: str = "") -> str:
    """``what`` needs an extra that is not installed, and how to get it; ``otherwise``: or how to
    do without."""
    text = f"{what} needs {EXTRAS[extra]}: pip install 'carbon-router[{extra}]'"
    return f"{text}, or {otherwise}" if otherwise else text

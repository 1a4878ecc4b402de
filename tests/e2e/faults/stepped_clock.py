"""A process whose wall clock steps when it is told to."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("stepped_clock.c")


class StepClock:
    """What a process's wall clock is ahead by, seconds, whoever in it asks: also gRPC's core."""

    def __init__(self, folder):
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("LOUD: there is no C compiler, clock steps were not tried")
        library, self._page = folder / "stepped_clock.so", folder / "step"
        flags = ["-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"]
        subprocess.run([compiler, *flags], check=True)
        self.to(0)
        self.environment = {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(self._page)}

    def to(self, seconds):
        """Step it."""
        mode = "r+b" if self._page.exists() else "w+b"
        with self._page.open(mode) as page:
            page.write(struct.pack("l", seconds))

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("own", "told"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_linear_algebra_gets_one_thread(own: dict[str, str], told: str) -> None:
    """Said before numpy is there, which reads it but once."""
    code = (
        "import os, sys, router.cli.blas; "
        "print(os.environ['OPENBLAS_NUM_THREADS'], 'numpy' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, **own}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{told} False"), done.stderr

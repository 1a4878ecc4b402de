from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("own", "told"), [({}, "NONE"), ({"GRPC_VERBOSITY": "DEBUG"}, "DEBUG")])
def test_grpc_writes_nothing_of_its_own(own: dict[str, str], told: str) -> None:
    """Said before gRPC is there, which reads it but once."""
    code = (
        "import os, sys, router.cli.grpc_lines; "
        "print(os.environ['GRPC_VERBOSITY'], 'grpc' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, **own}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{told} False"), done.stderr

"""What takes long and is like what the suite does anyway: part of `make faults`."""

import os

import pytest

LONG = pytest.mark.skipif("ALL_FAULTS" not in os.environ, reason="part of `make faults`")

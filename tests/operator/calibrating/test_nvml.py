import importlib.util

import pytest

from router.errors import ConfigError, DataError
from router.operator.calibrating.nvml import NvmlMeter


def test_without_the_extra_or_a_driver_it_is_told():
    missing = importlib.util.find_spec("pynvml") is None
    error, why = (ConfigError, "nvml") if missing else (DataError, "NVML has no GPUs 99")
    with pytest.raises(error, match=why):
        NvmlMeter((99,))

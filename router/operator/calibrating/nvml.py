"""Joules of this machine's GPUs by NVIDIA's own library, where no exporter runs."""

from __future__ import annotations

from collections.abc import Sequence

from router.errors import DataError
from router.extras import need
from router.load.energy_meter import MeterReading

_MJ = 1e-3


class NvmlMeter:
    """GPUs by their numbers, as nvidia-smi has them. Only reads: no clocks, limits or modes."""

    def __init__(self, gpus: Sequence[int]) -> None:
        """Raises ConfigError without the extra, DataError without a driver or such a GPU."""
        with need("nvml", "reading NVML", file="--nvml"):
            import pynvml
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in gpus]
            self._handles = {str(pynvml.nvmlDeviceGetUUID(one)): one for one in handles}
        except pynvml.NVMLError as error:
            raise DataError(f"NVML has no GPUs {', '.join(map(str, gpus))}: {error}") from None

    def reading(self) -> MeterReading:
        """Joules since the driver was loaded (Volta and later), and watts."""
        joules, watts = {}, {}
        for name, handle in self._handles.items():
            try:
                joules[name] = self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle) * _MJ
            except self._nvml.NVMLError:
                joules.pop(name, None)
            try:
                watts[name] = self._nvml.nvmlDeviceGetPowerUsage(handle) * _MJ
            except self._nvml.NVMLError:
                watts.pop(name, None)
        return MeterReading(joules, watts)

"""The real gateway between real callers and emulated model servers, all on loopback.

What the demo and the simulator's calibration share: processes, callers, meters and the run itself.
"""

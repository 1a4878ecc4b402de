"""Calibration: an endpoint's meter against its server's counters, as a profile."""

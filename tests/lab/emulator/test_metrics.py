from router.lab.emulator.lag import LoopLag
from router.lab.emulator.metrics import render
from router.lab.loopback.watch import lag_counts


def test_the_exposition_tells_the_counts():
    lag = LoopLag()
    for lag_ms in (0.5, 8.0, 8.0, 900.0):
        lag.observe(lag_ms)
    text = render({}, lag)
    assert 'emulated:loop_lag_seconds_bucket{le="0.01"} 3' in text
    assert 'emulated:loop_lag_seconds_bucket{le="+Inf"} 4' in text
    assert lag_counts(text) == lag.counts
    assert lag_counts("") == []

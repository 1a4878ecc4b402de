import signal

import pytest

from router.app import envoy


def test_a_reload_that_is_asked_for_at_the_start_waits_until_it_can_be_heard(monkeypatch, tmp_path):
    class Enough(Exception):
        pass

    masks = []

    def load(path):
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        raise Enough

    monkeypatch.setattr(envoy, "load", load)
    with pytest.raises(Enough):
        envoy.serve(tmp_path / "none.yaml")
    assert signal.SIGHUP in masks[0]
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ())

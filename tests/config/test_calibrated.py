"""What was calibrated stands in for what is configured, or is as if it were not there."""

import pytest

from router.app.loading import load
from router.config.calibrated import Calibrated, calibrated_profile, key_of, with_calibrated
from router.model import Provenance
from tests.config.samples import write

METER = {"kind": "dcgm", "url": "http://127.0.0.1:9400/metrics", "calibrate": {}}
PROFILE = {
    "kind": "token", "idle_w": 90.0, "base_w": 480.0, "w_per_token_s": 0.024, "tpot_base_ms": 6.0,
    "tpot_ms_per_sequence": 0.05, "prefill_base_ms": 0.0, "prefill_ms_per_token": 0.04,
    "prefill_w": 660.0, "max_batch": 691, "target_batch": 64, "host_fraction": 0.0,
    "host_awake_w": 105.0, "host_idle_w": 105.0, "provenance": "calibrated",
    "calibrated_on": "west-0", "as_of": "2026-11-30T18:00Z", "source": "test",
}  # fmt: skip


def configured(folder, **changes):
    return load(write(folder, {"endpoints/0/meter": METER, **changes}))


def west(config):
    return config.fleet.endpoints[0]


def profile_of(config):
    return west(config).models[0].profile


def test_it_stands_in_for_what_is_configured_on_its_own_endpoint(tmp_path):
    config = configured(tmp_path)
    found = with_calibrated(config, [Calibrated("west-0", key_of(west(config)), PROFILE)])
    assert profile_of(found).idle_w == 90.0
    assert profile_of(found).name == "llama-3.1-8b:west-0@1xh100"
    assert west(found).kind_by(profile_of(found)) is Provenance.CALIBRATED
    assert found.fleet.endpoints[1:] == config.fleet.endpoints[1:]


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoints/0/meter/calibrate": None},
        {"endpoints/0/models/0/profile": "llama-3.1-70b@4xh100"},
        {"endpoints/0/address": "127.0.0.1:9900"},
        {"endpoints/0/meter/labels": {"gpu": "1"}},
    ],
)
def test_of_another_configuration_it_says_nothing(tmp_path, changes):
    key = key_of(west(configured(tmp_path)))
    other = configured(tmp_path, **changes)
    assert with_calibrated(other, [Calibrated("west-0", key, PROFILE)]) is other


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"idle_w": 1e5}, "idle_w"),
        ({"idle_w": 2.0, "host_idle_w": 0.0}, "idle 2 W, and llama-3.1-8b@1xh100 has 1"),
        ({"base_w": 9000.0, "prefill_w": 9000.0}, "at work 9105 W"),
        ({"tpot_base_ms": 400.0}, "an answer token at the target batch"),
        ({"tpot_base_ms": float("nan")}, "finite"),
        ({"w_per_token_s": -1.0}, "greater than or equal to 0"),
        ({"idle_w": 500.0}, "must not exceed base_w"),
        ({"calibrated_on": "west-1"}, "calibrated on this endpoint"),
        ({"provenance": "measured", "calibrated_on": None}, "calibrated on this endpoint"),
        ({"kind": "task"}, "energy_j"),
        ({"more": 1}, "more"),
    ],
)
def test_what_cannot_be_of_that_machine_is_refused(tmp_path, changes, why):
    config = configured(tmp_path)
    values = {**PROFILE, **changes}
    with pytest.raises(ValueError, match=why):
        calibrated_profile(values, west(config))
    found = with_calibrated(config, [Calibrated("west-0", key_of(west(config)), values)])
    assert found is config

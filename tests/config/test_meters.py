"""What counts an endpoint's joules: whose they are, and that none is counted twice."""

import pytest

from router.config.meters import COUNTING_ENGINES
from router.errors import ConfigError
from router.load.work_counters import WORK
from router.model import CalibrationTimes, EnergyMeter
from tests.config.samples import loaded, problems

PAGE = "http://node-7:9400/metrics"


def dcgm(url=PAGE, **labels):
    return {"kind": "dcgm", "labels": labels, **({"url": url} if url else {})}


def test_labels_are_a_value_or_several(tmp_path):
    meter = dcgm(gpu=["0", "1"], Hostname="node-7")
    config = loaded(tmp_path, {"endpoints/0/meter": meter})
    first, second = config.fleet.endpoints
    assert first.meter == EnergyMeter(
        PAGE, "dcgm", {"gpu": frozenset("01"), "Hostname": frozenset(["node-7"])}
    )
    assert second.meter is None


def test_without_a_page_of_its_own_it_is_the_endpoints(tmp_path):
    config = loaded(tmp_path, {"endpoints/0/meter": {"kind": "triton"}})
    assert config.fleet.endpoints[0].meter.url == "http://127.0.0.1:8002/metrics"


def test_left_out_an_emulated_server_may_count(tmp_path):
    meter = loaded(tmp_path).fleet.endpoints[0].meter
    assert (meter.kind, meter.covers_host) == ("emulated", True)


@pytest.mark.parametrize(
    ("changes", "key", "told"),
    [
        ({"endpoints/1/meter": dcgm("")}, "endpoints[1].meter.url", "no metrics.url"),
        (
            {"endpoints/0/meter": dcgm(GPU_I_ID="3")},
            "endpoints[0].meter.labels.GPU_I_ID",
            "the joules of the whole GPU",
        ),
        (
            {"endpoints/0/meter": dcgm(gpu=["0", "1"]), "endpoints/1/meter": dcgm(gpu="1")},
            "endpoints[1].meter.labels",
            "may count what the meter of 'west-0' counts",
        ),
        (
            {"endpoints/0/meter": dcgm(gpu="0"), "endpoints/1/meter": dcgm(Hostname="a")},
            "endpoints[1].meter.labels",
            "labels that differ",
        ),
        ({"endpoints/0/meter": {"kind": "sun"}}, "endpoints[0].meter.kind", "dcgm"),
        ({"endpoints/0/meter": dcgm(gpu=[])}, "endpoints[0].meter.labels.gpu", ""),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path, changes, key, told):
    found = problems(tmp_path, changes)
    (text,) = [text for where, text in found.items() if where.startswith(key)]
    assert told in text


@pytest.mark.parametrize(
    "other", [dcgm(gpu="1"), dcgm("http://node-8:9400/metrics", gpu="0"), {"kind": "triton",
    "url": PAGE}],
)  # fmt: skip
def test_meters_that_differ_are_two(tmp_path, other):
    changes = {"endpoints/0/meter": dcgm(gpu="0"), "endpoints/1/meter": other}
    assert loaded(tmp_path, changes).fleet.endpoints[1].meter is not None


def test_engines_that_may_calibrate_are_those_whose_work_is_known():
    assert set(COUNTING_ENGINES) == set(WORK)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"endpoints/0/metrics": {"url": "http://a:1/metrics", "engine": "trtllm"}}, "engine of"),
        ({"endpoints/0/meter/add_watts": True}, "wants counted joules"),
        ({"endpoints/0/meter/calibrate": {"every_s": 0.5}}, "every_s"),
        ({"server/workers": 2}, "state.file or state.redis: set one"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(tmp_path, changes, why):
    meter = {"kind": "dcgm", "url": "http://127.0.0.1:9400/metrics", "calibrate": {}}
    with pytest.raises(ConfigError, match=why):
        loaded(tmp_path, {"endpoints/0/meter": meter, **changes})


def test_what_may_be_calibrated_says_how_often(tmp_path):
    meter = {"kind": "emulated", "calibrate": {"refit_s": 600}}
    changes = {"endpoints/0/meter": meter, "server/workers": 2, "state": {"file": "x.json"}}
    (found, *others) = loaded(tmp_path, changes).fleet.endpoints
    assert found.meter.calibration == CalibrationTimes(10.0, 600.0)
    assert all(one.meter is None or one.meter.calibration is None for one in others)

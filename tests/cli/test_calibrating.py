"""calibrate, as an operator calls it."""

import json

import yaml

from tests.cli.command_line import run
from tests.config.samples import write
from tests.load.calibration.servers import readings
from tests.operator.calibrating.test_calibrate import recorded


def test_a_series_becomes_a_profile(tmp_path, capsys):
    meter = {"kind": "dcgm", "url": "http://127.0.0.1:9/metrics"}
    config = write(tmp_path, {"endpoints/0/meter": meter})
    series = recorded(tmp_path, readings(noise=0.01, awake=1.0))
    asked = ("calibrate", str(config), "west-0", "--recorded", str(series))
    assert run(*asked) == 0
    told = capsys.readouterr().out
    assert "base_w" in told and "not known: idle_w: idle for" in told
    assert "differs" in told and "GPUs alone" in told
    profile = told[told.index("profiles:") :]
    assert yaml.safe_load(profile)["profiles"].keys() == {"llama-3.1-8b:west-0@1xh100"}
    out = tmp_path / "profile.yaml"
    assert run(*asked, "--json", "--out", str(out)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["profile"] == out.read_text() == profile
    figures = {one["key"]: one for one in found["figures"]}
    assert "idle for" in figures["idle_w"]["why_not"]
    assert figures["base_w"]["low"] < figures["base_w"]["value"] < figures["base_w"]["high"]


def test_what_cannot_be_told_is_an_error(tmp_path, capsys):
    config = write(tmp_path)
    series = recorded(tmp_path, readings(count=20))
    asked = ("calibrate", str(config), "west-0", "--recorded", str(series))
    assert run(*asked) == 1
    assert "at least 20 are needed" in capsys.readouterr().err
    assert run("calibrate", str(config), "west-9", "--recorded", str(series)) == 2
    assert "west-0" in capsys.readouterr().err

"""``scaling`` of the file."""

import sys

import pytest

from router.app.loading import load
from router.config.settings import CommandSettings, ScalingSettings
from router.errors import ConfigError
from tests.app.support import configured

PROGRAM = sys.executable


def test_hints_go_to_a_url_and_to_a_program(tmp_path):
    webhook = {"url": "https://fleet.example/replicas", "credentials": {"file": "key"}}
    command = {"argv": [PROGRAM, "-c", "pass"]}
    found = load(configured(tmp_path, {"scaling": {"webhook": webhook, "command": command}}))
    scaling = found.settings.scaling
    assert scaling.command == CommandSettings((PROGRAM, "-c", "pass"), 60.0)
    assert scaling.webhook.tls is not None and scaling.webhook.timeout_s == 5.0
    assert scaling.webhook.credentials.secret.file == tmp_path / "key"
    assert load(configured(tmp_path)).settings.scaling is None


def test_whoever_asks_may_say_how_long_replicas_take(tmp_path):
    changes = {"scaling": {"wake_s": 30}, "server": {"scaler": "127.0.0.1:0"}}
    found = load(configured(tmp_path, changes)).settings.scaling
    assert found == ScalingSettings(wake_s=30.0)


@pytest.mark.parametrize(
    ("scaling", "told"),
    [
        ({}, r"scaling: .*webhook or command"),
        ({"wake_s": 30}, r"scaling: nobody is told"),
        ({"command": {"argv": []}}, r"scaling\.command\.argv"),
        ({"command": {"argv": ["scale"]}}, r"scaling\.command\.argv: scale: give its absolute"),
        ({"command": {"argv": ["/no/such"]}}, r"/no/such: no program that can be run"),
        ({"command": {"argv": ["/bin/sh", "a\0b"]}}, r"scaling\.command\.argv"),
        ({"webhook": {"url": "ftp://a"}}, r"scaling\.webhook\.url"),
        ({"webhook": {"url": "https://a/b?key=secret"}}, r"without a key or a query"),
        ({"webhook": {"url": "http://a.example", "tls": {}}}, r"scaling\.webhook\.tls: is for h"),
        (
            {"webhook": {"url": "http://a.example", "credentials": {"env": "KEY"}}},
            r"scaling\.webhook\.credentials: would travel in plaintext",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path, scaling, told):
    with pytest.raises(ConfigError, match=told) as caught:
        load(configured(tmp_path, {"scaling": scaling}))
    assert "secret" not in str(caught.value)

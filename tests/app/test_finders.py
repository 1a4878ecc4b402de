"""Each kind of place has who looks there, and an extra that is missing is said."""

import random
from dataclasses import replace

import pytest

from router.app import finders
from router.app.finders import build_finder
from router.clock import WallClock
from router.discovery.dns import DnsFinder
from router.discovery.file import FileFinder
from router.discovery.kubernetes.finder import KubernetesFinder
from router.errors import ConfigError
from tests.config.samples import loaded
from tests.config.test_found import by_dns, in_cluster, place


def built(settings):
    return build_finder(settings, WallClock(), random.Random(1))


def test_each_kind_has_its_finder(tmp_path):
    (file,) = loaded(tmp_path, {"discovery": [place()]}).settings.discovery
    assert isinstance(built(file), FileFinder)
    (records,) = loaded(tmp_path, by_dns()).settings.discovery
    assert isinstance(built(records), DnsFinder)
    assert "SRV records of _http._tcp.pods.example by the host's" in str(records.place)
    (cluster,) = loaded(tmp_path, in_cluster(service="vllm")).settings.discovery
    assert isinstance(built(cluster), KubernetesFinder)


def test_a_missing_extra_is_said(tmp_path, monkeypatch):
    (cluster,) = loaded(tmp_path, in_cluster(service="vllm")).settings.discovery
    monkeypatch.setattr(finders, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"carbon-router\[kubernetes\]"):
        built(replace(cluster, name="other"))

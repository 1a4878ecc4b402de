import pytest

from router.errors import ConfigError
from router.operator.envoy_check import envoy_notes
from tests.config.samples import loaded, sample
from tests.planes.envoy import host as hosts


@hosts.missing
def test_it_names_what_envoy_does_otherwise(tmp_path):
    given = sample()
    made = envoy_notes(loaded(tmp_path, given))
    assert any("server.max_wait_ms" in one for one in made)
    assert not any("passed on" in one for one in made)
    for one in given["endpoints"][0]["models"]:
        one["prefix_cache_tokens"] = 100_000
    made = envoy_notes(loaded(tmp_path, given))
    assert any("passed on" in one and "llama-3.1-8b" in one for one in made)


def test_what_envoy_would_refuse_is_refused(tmp_path):
    given = sample()
    given.setdefault("server", {})["listen"] = "127.0.0.1:0"
    with pytest.raises(ConfigError, match=r"server\.listen"):
        envoy_notes(loaded(tmp_path, given))

"""By which headers callers say who they are."""

import pytest

from router.client_keys import CLIENT_KEYS


@pytest.mark.parametrize(
    "name",
    ["authorization", "authorization-bin", "x-api-key", "x_api_key", "x.api-key", "x_api-key-bin",
     "api_key", "x_goog_api_key", "proxy_authorization"],
)  # fmt: skip
def test_they_are_known_however_they_are_written(name):
    assert name in CLIENT_KEYS


@pytest.mark.parametrize("name", ["", "x-api-keys", "x-auth", "xapikey", "key", "authorization-b"])
def test_others_are_not(name):
    assert name not in CLIENT_KEYS

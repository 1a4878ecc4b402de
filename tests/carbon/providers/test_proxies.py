from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.providers.proxies import proxy_of
from router.errors import ConfigError

URL = "https://api.example.org/v4"
PROXY = "http://proxy.corp:3128"


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, PROXY),
        ({"HTTPS_PROXY": "proxy.corp:3128"}, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY),
        ({"HTTP_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": "  "}, None),
        ({"HTTPS_PROXY": "http://u:p@proxy.corp:3128"}, "http://u:p@proxy.corp:3128"),
    ],
)
def test_the_environment_names_the_proxy_of_a_scheme(
    environ: dict[str, str], proxy: str | None
) -> None:
    assert proxy_of(URL, environ) == proxy


@pytest.mark.parametrize(
    "spared",
    ["*", "example.org", ".example.org", "*.example.org", "api.example.org:443",
     "x, api.example.org ", "API.EXAMPLE.ORG"],
)  # fmt: skip
def test_no_proxy_spares_a_host_and_all_below_it(spared: str) -> None:
    assert proxy_of(URL, {"HTTPS_PROXY": PROXY, "NO_PROXY": spared}) is None


@pytest.mark.parametrize("spared", ["", "example.com", "ample.org", "api.example.org:80", ",,"])
def test_no_proxy_spares_no_other_host(spared: str) -> None:
    assert proxy_of(URL, {"HTTPS_PROXY": PROXY, "NO_PROXY": spared}) == PROXY


def test_addresses_are_spared_by_block_and_loopback_always() -> None:
    environ = {"HTTP_PROXY": PROXY, "NO_PROXY": "10.0.0.0/8"}
    assert proxy_of("http://10.1.2.3/", environ) is None
    assert proxy_of("http://11.1.2.3/", environ) == PROXY
    for own in ("localhost:80", "127.0.0.1:9", "[::1]:9"):
        assert proxy_of(f"http://{own}/", environ) is None


@pytest.mark.parametrize("value", ["socks5://proxy:1", "http://", "http://proxy:0", "http://[x"])
def test_a_proxy_that_cannot_be_used_is_told_by_its_variable(value: str) -> None:
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        proxy_of(URL, {"HTTPS_PROXY": value})
    assert "proxy:" not in str(caught.value).replace("http://proxy.example", "")


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_environment_gives_a_proxy_none_or_a_config_error(value: str, spared: str) -> None:
    try:
        found = proxy_of(URL, {"HTTPS_PROXY": value, "NO_PROXY": spared})
    except ConfigError:
        return
    assert found is None or found.startswith("http")

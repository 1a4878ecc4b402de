"""By what names a port without a token is called."""

import pytest

from router.telemetry.own_names import is_own_name

OURS = {"carbon.example.org"}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9500", "127.0.0.1", "[::1]:9500", "[fe80::1%25eth0]:9500", "10.2.3.4:9500",
        "localhost:9500", "LOCALHOST.", "gateway-2:9500", "a.localhost",
        "carbon-router-admin.inference.svc:9500", "router.inference.svc.cluster.local",
        "router.prod.internal:80", "Carbon.example.org:9500", "carbon.example.org.",
    ],
)  # fmt: skip
def test_addresses_private_names_and_those_that_are_listed_are_its_own(host):
    assert is_own_name(host, OURS)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:9500", "127.0.0.1.evil.example:9500",
        "localhost.evil.example",
        "evil.example.org", "xcarbon.example.org", "notinternal.com", "svc.com", "0x7f.1.example",
        "127.0.0.1.nip.io", "[evil.example]:9500", "evil.example:127.0.0.1", "", ":9500",
        "evil.example/@localhost", "[::1].evil.example", "[::1]evil.example:9500",
    ],
)  # fmt: skip
def test_any_other_could_be_a_strangers(host):
    assert not is_own_name(host, OURS)

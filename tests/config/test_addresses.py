import pytest

from router.config.addresses import as_envoy_writes, ip_and_port


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("10.0.0.2:8001", "10.0.0.2:8001"),
        ("localhost:08001", "127.0.0.1:8001"),
        ("[0:0:0:0:0:0:0:1]:8001", "[::1]:8001"),
        ("[FE80::0:A]:8001", "[fe80::a]:8001"),
        ("[::ffff:102:304]:8001", "[::ffff:1.2.3.4]:8001"),
        ("model-server:8001", "model-server:8001"),
    ],
)
def test_of_one_server_there_is_one_address(address, written):
    assert as_envoy_writes(address) == written


def test_a_name_is_no_ip_address():
    assert ip_and_port("model-server:8001") is None
    assert ip_and_port("[::1]:8001") == ("::1", 8001)

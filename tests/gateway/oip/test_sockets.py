"""The sockets of this process, found by their peer."""

import socket
import sys
from contextlib import ExitStack

import pytest

from router.gateway.oip.sockets import Sockets, peer_of, plain

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and TCP_INFO")


@pytest.fixture
def pair():
    """(client, server) ends of a connection over loopback."""
    with ExitStack() as held:
        listening = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = held.enter_context(socket.create_connection(listening.getsockname()))
        server = held.enter_context(listening.accept()[0])
        yield client, server


def test_bytes_received_are_those_that_were_sent(pair):
    client, server = pair
    sockets = Sockets()
    before = sockets.received_bytes(peer_of(server))
    client.sendall(bytes(1234))
    server.recv(1234, socket.MSG_WAITALL)
    assert sockets.received_bytes(peer_of(server)) - before == 1234


def test_closing_ends_both_directions_and_leaves_the_descriptor_to_its_owner(pair):
    client, server = pair
    assert Sockets().close(peer_of(server))
    assert client.recv(1) == b""
    assert server.fileno() >= 0


def test_a_peer_that_is_gone_is_not_found(pair):
    _, server = pair
    sockets, peer = Sockets(), peer_of(server)
    assert sockets.received_bytes(peer) is not None
    server.close()
    assert sockets.received_bytes(peer) is None
    assert not sockets.close(peer)


def test_a_descriptor_that_is_used_anew_is_found_under_its_new_peer(pair):
    _, server = pair
    sockets = Sockets()
    sockets.received_bytes(peer_of(server))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server.close()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as again:
            assert sockets.received_bytes(peer_of(again)) is not None


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("ipv4:10.0.0.7:40122", "ipv4:10.0.0.7:40122"),
        ("ipv6:%5B::1%5D:40122", "ipv6:[::1]:40122"),
    ],
)
def test_peers_are_spelled_as_grpc_spells_them(said, meant):
    assert plain(said) == meant


def test_an_ipv6_peer_is_found():
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with ExitStack() as held:
        held.enter_context(listening)
        client = held.enter_context(socket.create_connection(listening.getsockname()[:2]))
        server = held.enter_context(listening.accept()[0])
        assert peer_of(server) == f"ipv6:[::1]:{client.getsockname()[1]}"

"""Addresses that one gateway has to itself though its workers share them."""

import socket

import pytest

from router.app import listening
from router.app.listening import held
from router.errors import ConfigError


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(listening, "_PATIENCE_S", 0.0)


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def worker(address):
    """A worker's socket: ready to share."""
    host, _, port = address.rpartition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC and asyncio do
    made.bind((host, int(port)))
    made.listen()
    return made


def test_a_second_gateway_is_refused_even_before_the_first_one_listens():
    address = free_address()
    with (
        held("a.yaml", [("server.listen", address)]),
        pytest.raises(ConfigError, match=r"b.yaml: server.listen: .*share_port"),
        held("b.yaml", [("server.listen", address)]),
    ):
        pass
    with held("b.yaml", [("server.listen", address)]):
        pass


def test_workers_may_listen_where_their_parent_holds_the_address():
    address = free_address()
    with held("a.yaml", [("server.listen", address)]), worker(address), worker(address) as second:
        assert second.getsockname()


def test_whoever_listens_already_though_ready_to_share_is_not_joined():
    address = free_address()
    with (
        worker(address),
        pytest.raises(ConfigError, match=r"server.admin: cannot listen on"),
        held("a.yaml", [("server.admin", address)]),
    ):
        pass


def test_what_a_wildcard_covers_is_taken_too():
    address = free_address()
    port = address.rpartition(":")[2]
    with (
        worker(f"0.0.0.0:{port}"),
        pytest.raises(ConfigError),
        held("a.yaml", [("server.listen", address)]),
    ):
        pass


def test_connections_of_an_earlier_gateway_that_linger_do_not_matter():
    address = free_address()
    host, _, port = address.rpartition(":")
    with worker(address) as server, socket.create_connection((host, int(port))) as client:
        accepted, _ = server.accept()
        accepted.close()  # closed here first: it lingers here
        client.recv(1)
    with held("a.yaml", [("server.listen", address)]):
        pass


def test_an_address_of_another_host_is_told_apart():
    with (
        pytest.raises(ConfigError, match=r"cannot listen on 192.0.2.1:80[^;]*$"),
        held("a.yaml", [("server.listen", "192.0.2.1:80")]),
    ):
        pass


def test_any_free_port_is_nobodys():
    two = [("server.listen", "127.0.0.1:0"), ("server.admin", "127.0.0.1:0")]
    with held("a.yaml", two), held("b.yaml", two):
        pass


def test_orphans_of_a_killed_parent_get_a_moment_to_stop_listening(monkeypatch):
    monkeypatch.setattr(listening, "_PATIENCE_S", 3.0)
    address = free_address()
    orphan = worker(address)
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        orphan.close()

    monkeypatch.setattr(listening.time, "sleep", sleep)
    with held("a.yaml", [("server.listen", address)]):
        assert len(waits) == 1

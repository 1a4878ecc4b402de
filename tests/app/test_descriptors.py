"""Open files: as many as are needed, never all for clients."""

import resource
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.app import descriptors


@pytest.fixture
def limits(monkeypatch):
    """The process's (soft, hard) limit as a list, for a test to set."""
    held = [(1024, 4096)]

    def put(_, new):
        if new[0] > new[1] != resource.RLIM_INFINITY:
            raise ValueError("not allowed to raise maximum limit")
        held[0] = new

    monkeypatch.setattr(resource, "getrlimit", lambda _: held[0])
    monkeypatch.setattr(resource, "setrlimit", put)
    return held


def server(connections, http=None):
    return SimpleNamespace(max_connections=connections, http=http)


HTTP = "127.0.0.1:8080"
NO_LIMIT = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        ((1024, 4096), server(2000), 2000 + 256 + 10),
        ((1024, 4096), server(8192), 4096),
        ((20_000, 20_000), server(8192), 20_000),
        ((1024, NO_LIMIT), server(8192), 8192 + 256 + 10),
        # Each request over HTTP has a connection of its own to a server.
        ((1024, NO_LIMIT), server(8192, HTTP), 3 * 8192 + 256 + 10),
        ((NO_LIMIT, NO_LIMIT), server(8192), NO_LIMIT),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_needed_and_allowed(limits, before, asked, after):
    limits[0] = before
    descriptors.raise_limit(asked, 10)
    assert limits[0] == (after, before[1])


def test_a_limit_that_may_not_be_changed_is_told_and_lived_with(limits, monkeypatch, caplog):
    def refuse(*_):
        raise OSError("no")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    descriptors.raise_limit(server(8192), 10)
    assert "stays at 1024" in caplog.text


@pytest.mark.parametrize(
    ("limit", "http", "connections"),
    [
        (20_000, None, 8192),
        (1024, None, 758),
        (128, None, 64),
        (NO_LIMIT, None, 8192),
        (30_000, HTTP, 8192),
        (1024, HTTP, 252),
        (128, HTTP, 21),
        (NO_LIMIT, HTTP, 8192),
    ],
)
def test_clients_never_get_all_descriptors(limits, limit, http, connections):
    limits[0] = (limit, limit)
    assert descriptors.affordable(server(8192, http), 10) == connections


@given(st.integers(64, 100_000), st.integers(0, 2000), st.sampled_from((None, HTTP)))
def test_with_every_front_full_there_is_room_for_endpoints_or_half(limit, endpoints, http):
    """Clients on both fronts, and what theirs over HTTP take of servers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda _: (limit, limit))
        most = descriptors.affordable(server(8192, http), endpoints)
    taken = most if http is None else 3 * most
    assert taken <= max(limit // 2, limit - 256 - endpoints)
    assert most == 8192 or most >= limit // 6


def test_of_one_process_each_connection_may_take_another_one_to_a_server(limits):
    limits[0] = (10_000, 10_000)
    assert descriptors.affordable_in_all(100, 4) == 100
    assert descriptors.affordable_in_all(8192, 4) == (10_000 - 256 - 4) // 2
    # However few there are, half of them are for callers and their servers.
    limits[0] = (128, 128)
    assert descriptors.affordable_in_all(8192, 4) == 32
    limits[0] = (NO_LIMIT, NO_LIMIT)
    assert descriptors.affordable_in_all(8192, 4) == 8192

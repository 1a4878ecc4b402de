"""Open files: as many as are needed, never all for clients."""

import resource

import pytest

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


@pytest.mark.parametrize(
    ("before", "connections", "after"),
    [
        ((1024, 4096), 2000, 2256),
        ((1024, 4096), 8192, 4096),
        ((20_000, 20_000), 8192, 20_000),
        ((1024, resource.RLIM_INFINITY), 8192, 8448),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 8192, resource.RLIM_INFINITY),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_needed_and_allowed(limits, before, connections, after):
    limits[0] = before
    descriptors.raise_limit(connections)
    assert limits[0] == (after, before[1])


def test_a_limit_that_may_not_be_changed_is_told_and_lived_with(limits, monkeypatch, caplog):
    def refuse(*_):
        raise OSError("no")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    descriptors.raise_limit(8192)
    assert "stays at 1024" in caplog.text


@pytest.mark.parametrize(
    ("limit", "connections"),
    [(20_000, 8192), (1024, 768), (128, 64), (resource.RLIM_INFINITY, 8192)],
)
def test_clients_never_get_all_descriptors(limits, limit, connections):
    limits[0] = (limit, limit)
    assert descriptors.affordable(8192) == connections

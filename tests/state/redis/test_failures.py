"""What redis-py raises, in our words."""

from __future__ import annotations

import ssl

import pytest
from redis import exceptions as errors

from router.state.redis.failures import StoreFault, as_store_error
from router.telemetry.state_store import CAUSES

CASES = [
    (errors.ConnectionError("Error 111 connecting"), "unreachable"),
    (ConnectionResetError(104, "reset"), "unreachable"),
    (errors.TimeoutError("Timeout reading"), "timeout"),
    (TimeoutError(), "timeout"),
    (
        errors.AuthenticationError("invalid username-password pair", status_code="WRONGPASS"),
        "denied",
    ),
    (errors.AuthenticationError("Authentication required."), "denied"),
    (errors.NoPermissionError("no permissions"), "denied"),
    (errors.ResponseError("ACL failure in script: No permissions"), "denied"),
    (errors.ReadOnlyError("You can't write against a read only replica."), "read_only"),
    (errors.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "refused"),
    (errors.ResponseError("NOREPLICAS Not enough good replicas to write."), "refused"),
    (errors.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "full"),
    (errors.BusyLoadingError("Redis is loading the dataset in memory"), "loading"),
    (errors.ClusterDownError("The cluster is down"), "cluster_down"),
    (errors.RedisClusterException("All slots are not covered"), "cluster_down"),
    (errors.SlotNotCoveredError("Slot 7 not covered"), "cluster_down"),
    (errors.ResponseError("BUSY Redis is busy running a script."), "timeout"),
    (errors.ResponseError("DENIED Redis is running in protected mode"), "denied"),
    (ssl.SSLCertVerificationError(1, "certificate verify failed"), "tls"),
    (errors.ResponseError("WRONGTYPE Operation against a key"), "refused"),
    (errors.MaxConnectionsError("Too many connections"), "other"),
    (AttributeError("'NoneType' object has no attribute 'write'"), "other"),
]


@pytest.mark.parametrize(("error", "cause"), CASES)
def test_each_has_a_cause(error: Exception, cause: str) -> None:
    assert as_store_error(error).cause == cause


def test_a_cause_behind_another_is_found() -> None:
    for wrapper in (errors.ConnectionError("x"), errors.RedisClusterException("x")):
        wrapper.__cause__ = errors.AuthenticationError("invalid password")
        assert as_store_error(wrapper).cause == "denied"


def test_the_words_of_a_server_are_not_repeated() -> None:
    text = "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'gateway' 's3cret'"
    assert "s3cret" not in str(as_store_error(errors.ResponseError(text)))
    assert "s3cret" not in str(as_store_error(errors.ConnectionError(text)))
    assert "s3cret" not in str(as_store_error(ValueError(text)))


def test_every_cause_has_its_series() -> None:
    assert set(CAUSES) == set(StoreFault)

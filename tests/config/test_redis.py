"""`state.redis` of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.redis import parse_redis_url
from router.config.settings import RedisAddress, RedisTopology, SecretSpec, StateSettings
from tests.config.samples import loaded, problems

ONE, SENTINEL, CLUSTER = RedisTopology


def test_nothing_is_shared_unless_it_is_said(tmp_path: Path) -> None:
    assert loaded(tmp_path).settings.state == StateSettings()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://redis", RedisAddress(ONE, (("redis", 6379),))),
        ("redis://10.0.0.1:7000/3", RedisAddress(ONE, (("10.0.0.1", 7000),), database=3)),
        ("redis://redis/", RedisAddress(ONE, (("redis", 6379),))),
        ("rediss://[::1]", RedisAddress(ONE, (("::1", 6379),), tls=True)),
        ("rediss://[::1]:7", RedisAddress(ONE, (("::1", 7),), tls=True)),
        ("unix:///run/redis.sock", RedisAddress(ONE, (), path="/run/redis.sock")),
        ("unix:///a/b?db=2", RedisAddress(ONE, (), path="/a/b", database=2)),
        (
            "redis+sentinel://a,b:7/fleet",
            RedisAddress(SENTINEL, (("a", 26379), ("b", 7)), service="fleet"),
        ),
        (
            "rediss+sentinel://a/fleet/4",
            RedisAddress(SENTINEL, (("a", 26379),), tls=True, service="fleet", database=4),
        ),
        ("redis+cluster://a,b:7", RedisAddress(CLUSTER, (("a", 6379), ("b", 7)))),
        ("rediss+cluster://a", RedisAddress(CLUSTER, (("a", 6379),), tls=True)),
    ],
)
def test_a_url_says_where_it_is(url: str, address: RedisAddress) -> None:
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "", "redis", "redis:6379", "http://redis", "redis://", "redis:///3", "redis://a:0",
        "redis://a:b", "redis://a:99999", "redis://a,b", "redis://a/b", "redis://a/-1",
        "redis://a/12345678", "redis://a/1/2", "redis://a?db=1", "redis://a#b", "redis://a b",
        "unix://", "unix://a/b", "unix:///", "unix:///a?x=1", "unix:///a?db=x",
        "redis+sentinel://a", "redis+sentinel://a/", "redis+sentinel://a/fleet/x",
        "redis+cluster://a/1", "redis+cluster://", "redis+cluster://a,,b",
        "redis+cluster://" + ",".join(f"h{n}" for n in range(65)),
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused(tmp_path: Path, url: str) -> None:
    assert list(problems(tmp_path, {"state": {"redis": {"url": url}}})) == ["state.redis.url"]


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    for url in (text, f"redis://{text}", f"redis+sentinel://{text}", f"unix://{text}"):
        try:
            address = parse_redis_url(url)
        except ValueError:
            continue
        assert bool(address.hosts) != bool(address.path)


@pytest.mark.parametrize("url", ["redis://user:s3cret@redis", "redis://:s3cret@redis:6379/0"])
def test_a_password_in_the_url_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    ((key, text),) = problems(tmp_path, {"state": {"redis": {"url": url}}}).items()
    assert key == "state.redis.url"
    assert "password_env" in text
    assert "s3cret" not in text


def test_all_of_it(tmp_path: Path) -> None:
    keys = {
        "url": "rediss+sentinel://a,b/fleet",
        "prefix": "prod/eu",
        "username": "gateway",
        "password_env": "REDIS_PASSWORD",
        "sentinel_username": "watcher",
        "sentinel_password_file": "sentinel.txt",
        "ca_file": "ca.pem",
        "cert_file": "/etc/gateway.crt",
        "key_file": "gateway.key",
        "timeout_ms": 20,
    }
    redis = loaded(
        tmp_path, {"state": {"redis": keys, "file": "learned.json"}}
    ).settings.state.redis
    assert redis is not None
    assert (redis.prefix, redis.timeout_s) == ("prod/eu", 0.02)
    assert (redis.username, redis.password) == ("gateway", SecretSpec("REDIS_PASSWORD"))
    assert redis.sentinel_username == "watcher"
    assert redis.sentinel_password == SecretSpec("", tmp_path / "sentinel.txt")
    assert redis.ca_file == tmp_path / "ca.pem"
    assert (redis.cert_file, redis.key_file) == (
        Path("/etc/gateway.crt"), tmp_path / "gateway.key",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ca_file": "ca.pem"}, "ca_file needs TLS"),
        ({"url": "rediss://a", "cert_file": "a.crt"}, "cert_file and key_file together"),
        ({"password_env": "A", "password_file": "b"}, "not both"),
        ({"username": "gateway"}, "username needs password_env"),
        ({"sentinel_password_env": "A"}, "need redis+sentinel://"),
        ({"url": "redis+sentinel://a/b", "sentinel_username": "x"}, "sentinel_username needs"),
        ({"prefix": "a b"}, "no prefix"),
        ({"prefix": "{a}"}, "no prefix"),
        ({"prefix": ""}, "no prefix"),
        ({"password_env": "not a name"}, "variable"),
        ({"timeout_ms": 1}, "5"),
        ({"url": None}, "url"),
    ],
)
def test_keys_that_do_not_agree(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    given = {"url": "redis://a", **keys}
    ((key, text),) = problems(tmp_path, {"state": {"redis": given}}).items()
    assert key.startswith("state.redis")
    assert words in f"{key} {text}"

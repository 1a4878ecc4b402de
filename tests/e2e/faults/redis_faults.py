"""What becomes of a Redis while a block runs; it is well again after it."""

import contextlib


@contextlib.contextmanager
def killed(redis):
    """It is gone, and comes back empty."""
    redis.kill()
    try:
        yield
    finally:
        redis.start()


@contextlib.contextmanager
def frozen(redis):
    """It answers nothing."""
    redis.pause()
    try:
        yield
    finally:
        redis.resume()


@contextlib.contextmanager
def full(redis):
    """It takes nothing more."""
    redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
    try:
        yield
    finally:
        redis.ask("CONFIG", "SET", "maxmemory", "0")


@contextlib.contextmanager
def read_only(redis):
    """It takes itself for a replica."""
    redis.ask("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        redis.ask("REPLICAOF", "NO", "ONE")

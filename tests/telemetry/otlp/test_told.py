import logging
import threading

import pytest

from router.telemetry.otlp.told import ToldExports

EXPORTER = logging.getLogger("opentelemetry.exporter.theirs")


@pytest.fixture
def told():
    counts = {}

    def count(outcome, items):
        counts[outcome] = counts.get(outcome, 0) + items

    made = ToldExports("things", count, lambda text: text.replace("s3cret", "***"))
    made.counts = counts
    yield made
    made.release()


def failing(words):
    def call():
        EXPORTER.error(words)
        return False

    return call


def lines(caplog):
    return [r for r in caplog.records if r.name.startswith("router.")]


def test_a_failure_is_told_once_and_its_end_once(told, caplog):
    caplog.set_level(logging.INFO)
    assert not told.export(failing("no route with s3cret"), 2)
    assert not told.export(failing("no route"), 2)
    assert told.export(lambda: True, 3)
    assert told.export(lambda: True, 3)
    assert [one.getMessage() for one in lines(caplog)] == [
        "things cannot be exported", "things are exported again",
    ]  # fmt: skip
    assert lines(caplog)[0].cause == "no route with ***"
    assert told.counts == {"failed": 4, "exported": 6}
    assert told.taken == 10


def test_an_error_is_a_failure_and_its_words_are_not_told(told, caplog):
    def broken():
        raise RuntimeError("with what a caller wrote")

    assert not told.export(broken, 1)
    assert lines(caplog)[0].cause == "RuntimeError"


def test_what_another_threads_exporter_says_is_not_this_ones_cause(told, caplog):
    caplog.set_level(logging.INFO)

    def call():
        other = threading.Thread(target=EXPORTER.error, args=("of another",))
        other.start()
        other.join()
        return False

    told.export(failing("of its own"), 1)
    told.export(lambda: True, 1)
    told.export(call, 1)
    assert [one.cause for one in lines(caplog)[::2]] == ["of its own"] * 2


def test_what_its_end_breaks_off_is_no_failure_to_tell_of(told, caplog):
    told.export(lambda: not told.end(), 2)
    assert lines(caplog) == []
    assert told.counts == {"failed": 2}


def test_after_its_end_everything_is_dropped(told):
    assert told.end()
    assert not told.end()
    assert not told.export(lambda: True, 4)
    told.dropped(1)
    assert told.counts == {"dropped": 5}


def test_the_sdk_is_quiet_until_the_last_has_gone():
    logger = logging.getLogger("opentelemetry")
    before = logger.propagate
    one, two = (ToldExports("things", lambda *_: None, str) for _ in range(2))
    one.release()
    assert not logger.propagate
    two.release()
    assert logger.propagate == before

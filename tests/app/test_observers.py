"""Everybody who is told of a finished request is told."""

import random

from router.app.observers import LoggedRequests
from router.telemetry.request_file import RequestFile
from tests.director.support import Watch
from tests.gateway.support import receipt


def test_metrics_are_told_everything_and_the_file_what_succeeded():
    watch = Watch()
    written = []
    file = RequestFile(None, random.Random(1), lambda *_: None)
    file.finished = written.append
    observer = LoggedRequests(watch, file)
    observer.finished(receipt(), 0.001)
    observer.decided(1e-5)
    observer.retried("upstream_fault")
    observer.ejected("west-0")
    assert written == [receipt()]
    assert watch.receipts == [(receipt(), 0.001)]
    assert (watch.decisions, watch.retries) == ([1e-5], ["upstream_fault"])
    assert watch.ejections == ["west-0"]

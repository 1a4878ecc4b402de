"""Everybody who is told of a finished request is told."""

import logging
import random

from prometheus_client import CollectorRegistry

from router.app.observers import LoggedRequests
from router.contract import Verdict
from router.core.reports import Doubt
from router.telemetry.request_file import RequestFile
from router.telemetry.security import SECURITY, SecurityLog
from tests.director.support import Watch
from tests.gateway.support import receipt


def told(registry):
    return SecurityLog(registry, lambda: 0.0)


def test_metrics_are_told_everything_and_the_file_what_succeeded():
    watch = Watch()
    written = []
    file = RequestFile(None, random.Random(1), lambda *_: None)
    file.finished = written.append
    observer = LoggedRequests(watch, file, told(CollectorRegistry()))
    observer.finished(receipt(), 0.001)
    observer.decided(1e-5)
    observer.retried("upstream_fault")
    observer.ejected("west-0")
    observer.judged("chat", Verdict.NONE)
    assert written == [receipt()]
    assert watch.receipts == [(receipt(), 0.001)]
    assert (watch.decisions, watch.retries) == ([1e-5], ["upstream_fault"])
    assert watch.ejections == ["west-0"]
    assert watch.verdicts == [("chat", "none")]


def test_a_report_that_is_not_believed_is_an_event_of_security(caplog):
    caplog.set_level(logging.INFO)
    registry = CollectorRegistry()
    file = RequestFile(None, random.Random(1), lambda *_: None)
    observer = LoggedRequests(Watch(), file, told(registry))
    doubted = receipt(doubts=(Doubt.ENERGY_LOW, Doubt.TOKENS_HIGH))
    for _ in range(3):
        observer.finished(doubted, 0.001)
    observer.finished(receipt(), 0.001)
    lines = [record for record in caplog.records if record.name == SECURITY]
    assert [(one.event, one.why, one.endpoint) for one in lines] == [
        ("report_rejected", why, receipt().decision.endpoint.name)
        for why in ("report_energy_too_low", "report_tokens_too_high")
    ]
    count = "carbon_router_security_events_total"
    assert registry.get_sample_value(count, {"event": "report_rejected"}) == 6.0

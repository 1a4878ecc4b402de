"""Events of security: all are counted, some are written, none says a secret."""

import json
import logging

import pytest
from prometheus_client import CollectorRegistry
from pythonjsonlogger.json import JsonFormatter

from router.telemetry.security import SECURITY, SecurityEvent, SecurityLog


class Desk:
    def __init__(self, caplog):
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.log = SecurityLog(self.registry, lambda: self.now)
        self.caplog = caplog

    def count(self, event):
        labels = {"event": str(event)}
        return self.registry.get_sample_value("carbon_router_security_events_total", labels)

    @property
    def lines(self):
        return [
            json.loads(JsonFormatter().format(record))
            for record in self.caplog.records
            if record.name == SECURITY
        ]


@pytest.fixture
def desk(caplog):
    caplog.set_level(logging.INFO)
    return Desk(caplog)


def test_an_event_is_one_line_and_one_count(desk):
    desk.log.tell(
        SecurityEvent.UNAUTHENTICATED, "unknown_key", method="ModelInfer", peer="ipv4:10.0.0.7:1"
    )
    (line,) = desk.lines
    assert line["event"] == "unauthenticated"
    assert (line["why"], line["method"], line["peer"]) == (
        "unknown_key", "ModelInfer", "ipv4:10.0.0.7:1",
    )  # fmt: skip
    assert "principal" not in line
    assert desk.count(SecurityEvent.UNAUTHENTICATED) == 1.0
    assert desk.count(SecurityEvent.NOT_PERMITTED) == 0.0


def test_lines_that_repeat_are_held_back_and_counted(desk):
    for _ in range(50):
        desk.log.tell(SecurityEvent.RATE_LIMITED, "requests", principal="chat")
    desk.now = 11.0
    desk.log.tell(SecurityEvent.RATE_LIMITED, "requests", principal="chat")
    assert [line.get("suppressed") for line in desk.lines] == [None, 49]
    assert desk.count(SecurityEvent.RATE_LIMITED) == 51.0


def test_who_comes_by_another_port_is_no_news(desk):
    for port in range(20):
        desk.log.tell(SecurityEvent.UNAUTHENTICATED, "missing", peer=f"ipv4:10.0.0.7:{port}")
    desk.log.tell(SecurityEvent.UNAUTHENTICATED, "missing", peer="ipv4:10.0.0.8:1")
    assert len(desk.lines) == 2


def test_what_cannot_be_printed_is_replaced(desk):
    desk.log.tell(SecurityEvent.NOT_PERMITTED, "x-tenant", method="a\nevent: forged\x1b[31m")
    (line,) = desk.lines
    assert "\n" not in line["method"] and "\x1b" not in line["method"]


def test_a_credential_is_told_of_the_first_time(desk):
    for _ in range(3):
        desk.log.used("key abc", "chat", "ipv4:10.0.0.7:1")
    desk.log.used("key xyz", "chat", "")
    assert [line["credential"] for line in desk.lines] == ["key abc", "key xyz"]
    assert desk.count(SecurityEvent.FIRST_USE) == 2.0


def test_what_was_held_back_is_told_at_the_end(desk):
    for _ in range(3):
        desk.log.tell(SecurityEvent.RATE_LIMITED, "tokens", principal="chat")
    desk.log.close()
    desk.log.close()
    assert [line["suppressed"] for line in desk.lines if "suppressed" in line] == [2]

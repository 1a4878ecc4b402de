"""SRV records by a real server over UDP: their time to live, and all that is no answer."""

import asyncio
import random

import dns.rcode
import dns.resolver
import pytest

from router.config.discovery_settings import DnsPlace
from router.discovery import dns as module
from router.discovery.dns import DnsFinder
from tests.discovery.support import watched
from tests.fakes.dns_server import FakeDns

NAME = "_http._tcp.vllm.example."


@pytest.fixture
async def server(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", (0.001, 0.01))
    async with FakeDns(NAME) as made:
        yield made


def finder(server, least_s=0.01, most_s=300.0):
    place = DnsPlace(NAME, (server.address,), least_s, most_s)
    return DnsFinder(place, random.Random(1))


async def test_targets_and_ports_whatever_their_weight(server):
    server.records = ["0 5 8000 A.example.", "10 0 8001 b.example.", "0 1 8000 a.example."]
    async with watched(finder(server)) as listener:
        await listener.sees(
            **{"a.example:8000": "a.example:8000", "b.example:8001": "b.example:8001"}
        )
        server.records = ["0 0 0 ."]
        await listener.sees()


@pytest.mark.parametrize("code", [dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_what_is_no_answer_takes_nothing_away(server, code):
    server.records = ["0 0 80 a.example."]
    async with watched(finder(server)) as listener:
        await listener.sees(**{"a.example:80": "a.example:80"})
        server.rcode = code
        await listener.fails(NAME)
        assert set(listener.addresses) == {"a.example:80"}
        server.rcode = dns.rcode.NOERROR
        server.records = []
        await listener.fails("does not contain an answer")
        server.records = ["0 0 80 b.example."]
        await listener.sees(**{"b.example:80": "b.example:80"})


async def test_silence_is_a_failure_in_time(server, monkeypatch):
    monkeypatch.setattr(module, "ASK_S", 0.05)
    server.silent = True
    async with watched(finder(server)) as listener:
        await listener.fails()
        assert listener.found_last is None


async def test_a_host_without_nameservers_is_a_failure_that_passes(server, monkeypatch):
    made, nowhere = module._resolver, [dns.resolver.NoResolverConfiguration]

    def resolver(nameservers):
        if nowhere:
            raise nowhere[0]
        return made(nameservers)

    monkeypatch.setattr(module, "_resolver", resolver)
    server.records = ["0 0 80 a.example."]
    async with watched(finder(server)) as listener:
        await listener.fails("configuration")
        nowhere.clear()
        await listener.sees(**{"a.example:80": "a.example:80"})


@pytest.mark.parametrize(
    ("ttl_s", "least_s", "most_s", "slept_s"),
    [(60, 5, 300, 60), (0, 5, 300, 5), (86_400, 5, 300, 300)],
)
async def test_it_asks_again_when_the_answer_expires(
    server, monkeypatch, ttl_s, least_s, most_s, slept_s
):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        await asyncio.Event().wait()

    server.ttl_s, server.records = ttl_s, ["0 0 80 a.example."]
    monkeypatch.setattr(module, "asyncio", Slept(sleep))
    async with watched(finder(server, least_s, most_s)) as listener:
        await listener.sees(**{"a.example:80": "a.example:80"})
        await asyncio.sleep(0)
    assert slept_s <= slept[0] <= min(1.1 * slept_s, max(most_s, slept_s))
    assert server.asked == 1


class Slept:
    """asyncio with another sleep."""

    to_thread = staticmethod(asyncio.to_thread)

    def __init__(self, sleep):
        self.sleep = sleep

"""One suite over every place of discovery: what comes, goes and cannot be told."""

import json
import random

import dns.rcode
import pytest

from router.config.discovery_settings import DnsPlace
from router.discovery import dns as dns_module
from router.discovery.dns import DnsFinder
from router.discovery.file import FileFinder
from router.discovery.kubernetes import reflector
from router.model import FoundEndpoint
from tests.discovery.kubernetes.support import finder_of
from tests.discovery.support import watched
from tests.fakes.dns_server import FakeDns
from tests.fakes.kubernetes_api import SLICES, FakeCluster, endpoint_slice, slice_endpoint

A, B = FoundEndpoint("a", "10.0.0.1:8000"), FoundEndpoint("b", "10.0.0.2:8000")


class NamedAsGiven:
    """A place that tells names and addresses as they are put."""

    def named(self, one):
        return one.name, one.address


class InFile(NamedAsGiven):
    """A file that a test writes."""

    def __init__(self, folder):
        self.path = folder / "pods.yaml"
        self.finder = FileFinder(self.path, 0.01)

    async def open(self):
        pass

    async def put(self, *endpoints):
        listed = [{"name": one.name, "address": one.address} for one in endpoints]
        aside = self.path.with_suffix(".new")
        aside.write_text(json.dumps({"endpoints": listed}))
        aside.replace(self.path)

    async def break_down(self):
        self.path.write_text("endpoints: [")

    async def close(self):
        pass


class InCluster(NamedAsGiven):
    """A Service of a fake API server."""

    def __init__(self, folder):
        self.server = FakeCluster()
        self.folder = folder

    async def open(self):
        await self.server.__aenter__()
        self.finder = finder_of(self.server, self.folder, nodes=False)

    async def put(self, *endpoints):
        self.server.refuse.clear()
        listed = [slice_endpoint(one.name, one.address.partition(":")[0]) for one in endpoints]
        await self.server.put(SLICES, endpoint_slice("s-1", *listed))

    async def break_down(self):
        self.server.refuse["endpointslices"] = 500
        self.server.hang_up()

    async def close(self):
        await self.server.__aexit__()


class InDns:
    """SRV records of a fake DNS server, whose names are their addresses."""

    def __init__(self, folder):
        self.server = FakeDns("_http._tcp.pods.example.")

    async def open(self):
        await self.server.__aenter__()
        place = DnsPlace(self.server.name, (self.server.address,), 0.01, 300.0)
        self.finder = DnsFinder(place, random.Random(1))

    def named(self, one):
        target = f"{one.name}.example:8000"
        return target, target

    async def put(self, *endpoints):
        self.server.rcode = dns.rcode.NOERROR
        self.server.records = [f"0 0 8000 {one.name}.example." for one in endpoints] or ["0 0 0 ."]

    async def break_down(self):
        self.server.rcode = dns.rcode.SERVFAIL

    async def close(self):
        await self.server.__aexit__()


KINDS = {"file": InFile, "kubernetes": InCluster, "dns": InDns}


@pytest.fixture(params=KINDS)
async def place(request, tmp_path, monkeypatch):
    monkeypatch.setattr(reflector, "PAUSE_S", (0.001, 0.01))
    monkeypatch.setattr(dns_module, "PAUSE_S", (0.001, 0.01))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = KINDS[request.param](tmp_path)
    await made.open()
    yield made
    await made.close()


async def seen(listener, place, *endpoints):
    await listener.sees(**dict(place.named(one) for one in endpoints))


async def test_what_is_there_comes_and_goes(place):
    await place.put(A)
    async with watched(place.finder) as listener:
        await seen(listener, place, A)
        await place.put(A, B)
        await seen(listener, place, A, B)
        await place.put(B)
        await seen(listener, place, B)
        await place.put()
        await seen(listener, place)


async def test_a_failure_is_told_and_takes_nothing_away(place):
    await place.put(A, B)
    async with watched(place.finder) as listener:
        await seen(listener, place, A, B)
        await place.break_down()
        await listener.fails()
        assert listener.addresses == dict(place.named(one) for one in (A, B))
        await place.put(B)
        await seen(listener, place, B)


async def test_what_fails_from_the_start_is_found_later(place):
    await place.break_down()
    async with watched(place.finder) as listener:
        await listener.fails()
        assert listener.found_last is None
        await place.put(A)
        await seen(listener, place, A)


async def test_it_ends_when_it_is_told_to_and_can_run_again(place):
    await place.put(A)
    for _ in range(2):
        async with watched(place.finder) as listener:
            await seen(listener, place, A)

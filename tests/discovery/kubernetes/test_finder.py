"""Services and pools of a cluster, over HTTP: what comes, goes, breaks, expires and is denied."""

import asyncio
import random

import pytest

from router.clock import WallClock
from router.discovery.kubernetes import reflector
from router.discovery.kubernetes.cluster import Cluster
from router.discovery.kubernetes.finder import KubernetesFinder
from tests.discovery.kubernetes.support import finder_of, place
from tests.discovery.support import PATIENCE_S, watched
from tests.fakes.kubernetes_api import (
    NODES,
    PODS,
    POOLS,
    SLICES,
    FakeCluster,
    endpoint_slice,
    node,
    pod,
    pool,
    slice_endpoint,
)

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
A, B = slice_endpoint("pod-a", "10.0.0.1"), slice_endpoint("pod-b", "10.0.0.2", "node-b")


@pytest.fixture
async def server(monkeypatch):
    monkeypatch.setattr(reflector, "PAUSE_S", (0.001, 0.01))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with FakeCluster() as made:
        await made.put(NODES, node("node-a", "west", "west-1"), node("node-b", "east", "east-1"))
        yield made


async def until(holds):
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.001)


async def test_a_service_with_where_its_nodes_are(server, tmp_path):
    await server.put(SLICES, endpoint_slice("s-1", A), endpoint_slice("s-2", B))
    async with watched(finder_of(server, tmp_path)) as listener:
        await listener.sees(**{"pod-a": "10.0.0.1:8000", "pod-b": "10.0.0.2:8000"})
        assert listener.found_last["pod-a"].labels == {REGION: "west", ZONE: "west-1"}
        assert listener.found_last["pod-b"].labels == {REGION: "east", ZONE: "east-1"}
        await server.put(SLICES, endpoint_slice("s-1", A))
        await listener.sees(**{"pod-a": "10.0.0.1:8000"})
        await server.put(SLICES)
        await listener.sees()
    # Watches, not polls; and of nodes no more than labels.
    assert len(server.asks("endpointslices", watching=False)) == 1
    (watch,) = server.asks("endpointslices", watching=True)
    assert watch["resourceVersion"] and watch["allowWatchBookmarks"] == "true"
    assert watch["labelSelector"] == "kubernetes.io/service-name=vllm"
    accepted = [accept for path, _, accept in server.asked if path == NODES]
    assert all("PartialObjectMetadata" in accept for accept in accepted)


async def test_only_who_is_ready_and_stays(server, tmp_path):
    await server.put(
        SLICES,
        endpoint_slice(
            "s-1", A,
            slice_endpoint("starting", "10.0.0.3", ready=False),
            slice_endpoint("ending", "10.0.0.4", terminating=True),
            {"addresses": ["10.0.0.5"], "conditions": {}},
        ),
        endpoint_slice("others", slice_endpoint("other", "10.0.0.6"), service="other"),
    )  # fmt: skip
    async with watched(finder_of(server, tmp_path)) as listener:
        await listener.sees(**{"pod-a": "10.0.0.1:8000", "10.0.0.5": "10.0.0.5:8000"})


async def test_a_pod_of_two_families_counts_once(server, tmp_path):
    six = endpoint_slice("a-six", slice_endpoint("pod-a", "fd00::1"), family="IPv6")
    await server.put(SLICES, six)
    async with watched(finder_of(server, tmp_path)) as listener:
        await listener.sees(**{"pod-a": "[fd00::1]:8000"})
        await server.put(SLICES, six, endpoint_slice("b-four", A))
        await listener.sees(**{"pod-a": "10.0.0.1:8000"})


@pytest.mark.parametrize("port", ["grpc", "8001"])
async def test_a_port_by_name_or_number(server, tmp_path, port):
    await server.put(SLICES, endpoint_slice("s-1", A, ports=(("http", 8000), ("grpc", 8001))))
    async with watched(finder_of(server, tmp_path, port=port)) as listener:
        await listener.sees(**{"pod-a": "10.0.0.1:8001"})


async def test_many_pages_and_events_in_pieces(server, tmp_path, monkeypatch):
    monkeypatch.setattr(reflector, "_PAGE", 7)
    server.chunk = 5
    many = [slice_endpoint(f"pod-{n}", f"10.0.1.{n}") for n in range(50)]
    await server.put(SLICES, *(endpoint_slice(f"s-{n}", one) for n, one in enumerate(many)))
    async with watched(finder_of(server, tmp_path)) as listener:
        await listener.sees(**{f"pod-{n}": f"10.0.1.{n}:8000" for n in range(50)})
        assert len(server.asks("endpointslices", watching=False)) == 8
        await server.put(SLICES, endpoint_slice("s-1", A))
        await listener.sees(**{"pod-a": "10.0.0.1:8000"})


async def test_more_than_is_kept_is_told_and_never_taken_for_all(server, tmp_path, monkeypatch):
    monkeypatch.setattr(reflector, "MAX_OBJECTS", 2)
    await server.put(SLICES, endpoint_slice("s-1", A), endpoint_slice("s-2", B))
    async with watched(finder_of(server, tmp_path)) as listener:
        both = {"pod-a": "10.0.0.1:8000", "pod-b": "10.0.0.2:8000"}
        await listener.sees(**both)
        third = endpoint_slice("s-3", slice_endpoint("pod-c", "10.0.0.3"))
        await server.put(SLICES, endpoint_slice("s-1", A), endpoint_slice("s-2", B), third)
        await listener.fails("over 2 objects")
        assert listener.addresses == both
    async with watched(finder_of(server, tmp_path)) as listener:
        await listener.fails("over 2 objects")


@pytest.mark.parametrize("as_event", [False, True])
async def test_a_version_that_is_gone_is_listed_anew(server, tmp_path, as_event):
    server.gone_as_event = as_event
    await server.put(SLICES, endpoint_slice("s-1", A, B))
    async with watched(finder_of(server, tmp_path)) as listener:
        await listener.sees(**{"pod-a": "10.0.0.1:8000", "pod-b": "10.0.0.2:8000"})
        await until(lambda: server.asks("endpointslices", watching=True))
        # What goes while nobody is connected is not told by any event.
        server.refuse["endpointslices"] = 503
        server.hang_up()
        await listener.fails("503")
        assert set(listener.addresses) == {"pod-a", "pod-b"}
        await server.put(SLICES, endpoint_slice("s-2", B))
        server.compact()
        server.refuse.clear()
        await listener.sees(**{"pod-b": "10.0.0.2:8000"})
        assert listener.why == ""


async def test_bookmarks_save_a_list(server, tmp_path, monkeypatch):
    taken, take = [], reflector.Reflector._take

    def noted(self, event):
        take(self, event)
        taken.append((self._path, event["type"]))

    monkeypatch.setattr(reflector.Reflector, "_take", noted)
    await server.put(SLICES, endpoint_slice("s-1", A))
    async with watched(finder_of(server, tmp_path)) as listener:
        await listener.sees(**{"pod-a": "10.0.0.1:8000"})
        await until(lambda: server.asks("endpointslices", watching=True))
        await server.bookmark()
        told = str(server.version)
        await until(lambda: (SLICES, "BOOKMARK") in taken)
        server.compact()
        server.hang_up()
        await until(
            lambda: server.asks("endpointslices", watching=True)[-1]["resourceVersion"] == told
        )
        await server.put(SLICES, endpoint_slice("s-1", A, B))
        await listener.sees(**{"pod-a": "10.0.0.1:8000", "pod-b": "10.0.0.2:8000"})
    assert len(server.asks("endpointslices", watching=False)) == 1


async def test_connections_that_break_over_and_over_lose_nothing(server, tmp_path):
    async with watched(finder_of(server, tmp_path)) as listener:
        await listener.sees()
        for n in range(20):
            one = slice_endpoint(f"pod-{n}", f"10.0.2.{n}")
            await server.put(SLICES, endpoint_slice("s-1", one))
            server.hang_up()
            await listener.sees(**{f"pod-{n}": f"10.0.2.{n}:8000"})


@pytest.mark.parametrize("garbage", [b"{", b"[]\n", b'{"type": "ADDED"}\n', b"\xff\xfe\n" * 3])
async def test_what_is_no_event_is_a_failure_that_passes(server, tmp_path, garbage):
    await server.put(SLICES, endpoint_slice("s-1", A))
    async with watched(finder_of(server, tmp_path, nodes=False)) as listener:
        await listener.sees(**{"pod-a": "10.0.0.1:8000"})
        await until(lambda: server.asks("endpointslices", watching=True))
        server.garbage = garbage
        await server.bookmark()
        await until(lambda: not server.garbage)
        server.hang_up()
        await server.put(SLICES, endpoint_slice("s-1", B))
        await listener.sees(**{"pod-b": "10.0.0.2:8000"})


async def test_who_may_not_look_is_told_what_is_missing(server, tmp_path):
    server.refuse["endpointslices"] = 403
    async with watched(finder_of(server, tmp_path)) as listener:
        await listener.fails("a Role that may list and watch endpointslices is missing")
        assert listener.found_last is None
        await server.put(SLICES, endpoint_slice("s-1", A))
        server.refuse.clear()
        await listener.sees(**{"pod-a": "10.0.0.1:8000"})


async def test_nodes_that_may_not_be_read_hide_nobody(server, tmp_path):
    server.refuse["nodes"] = 403
    zoned = slice_endpoint("pod-z", "10.0.0.9", zone="west-1")
    await server.put(SLICES, endpoint_slice("s-1", zoned))
    async with watched(finder_of(server, tmp_path)) as listener:
        await listener.fails("nodes")
        await listener.sees(**{"pod-z": "10.0.0.9:8000"})
        assert listener.found_last["pod-z"].labels == {ZONE: "west-1"}


async def test_a_token_that_is_not_taken_is_read_again(server, tmp_path):
    finder = finder_of(server, tmp_path)
    server.token = "another"
    async with watched(finder) as listener:
        await listener.fails("401")
        server.kubeconfig(tmp_path)
        await server.put(SLICES, endpoint_slice("s-1", A))
        await listener.sees(**{"pod-a": "10.0.0.1:8000"})


async def test_outside_a_cluster_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    finder = KubernetesFinder(place(), lambda: Cluster(None), WallClock(), random.Random(1))
    async with watched(finder) as listener:
        await listener.fails("the pod's service account")


async def test_a_pool_and_its_pods(server, tmp_path):
    first = pod("pod-a", "10.0.0.1", app="vllm", fleet="green")
    new = pod("new", "10.0.0.3", ready=False, app="vllm")
    await server.put(PODS, first, new, pod("x", "10.9.9.9"))
    await server.put(POOLS, pool("llama", 8000, app="vllm"), pool("other", 1, app="x"))
    finder = finder_of(server, tmp_path, service="", inference_pool="llama")
    async with watched(finder) as listener:
        await listener.sees(**{"pod-a": "10.0.0.1:8000"})
        labels = listener.found_last["pod-a"].labels
        assert (labels["fleet"], labels[REGION]) == ("green", "west")
        second = pod("new", "10.0.0.3", "node-b", app="vllm")
        await server.put(PODS, first, second)
        await listener.sees(**{"pod-a": "10.0.0.1:8000", "new": "10.0.0.3:8000"})
        await server.put(POOLS, pool("llama", 8000, 8001, app="vllm"))
        await until(lambda: len(listener.addresses) == 4)
        assert listener.addresses["new:8001"] == "10.0.0.3:8001"
        # Another selector: those before stay until its own are listed.
        await server.put(PODS, first, second, pod("b", "10.0.0.7", app="sglang"))
        await server.put(POOLS, pool("llama", 8000, app="sglang"))
        await listener.sees(b="10.0.0.7:8000")


async def test_a_pool_that_is_not_there_is_said_and_one_that_went_leaves_its_pods(server, tmp_path):
    finder = finder_of(server, tmp_path, service="", inference_pool="llama")
    async with watched(finder) as listener:
        await listener.fails("no InferencePool 'llama'")
        await server.put(PODS, pod("pod-a", "10.0.0.1", app="vllm"))
        await server.put(POOLS, pool("llama", 8000, app="vllm"))
        await listener.sees(**{"pod-a": "10.0.0.1:8000"})
        before = listener.found_last
        await server.put(POOLS)
        await listener.until(lambda: listener.found_last is not before)
        assert listener.addresses == {"pod-a": "10.0.0.1:8000"}

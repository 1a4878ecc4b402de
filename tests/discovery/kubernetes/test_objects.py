"""Whatever an object says, it comes to endpoints or to nothing."""

from hypothesis import given
from hypothesis import strategies as st

from router.discovery.kubernetes.objects import (
    keep_node,
    keep_pod,
    keep_pool,
    of_pods,
    of_slices,
    slice_endpoints,
)
from tests.fakes.kubernetes_api import endpoint_slice, node, pod, pool, slice_endpoint

_words = st.sampled_from(
    ["metadata", "labels", "name", "spec", "status", "endpoints", "ports", "port", "addresses",
     "conditions", "ready", "targetRef", "selector", "matchLabels", "targetPorts", "number",
     "podIP", "type", "Ready", "True", "nodeName", "zone", "10.0.0.1"]
)  # fmt: skip
_leaves = st.none() | st.booleans() | st.integers(-1, 70_000) | _words
_json = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=6),
    max_leaves=25,
)


@given(st.dictionaries(_words, _json, max_size=8))
def test_any_object_is_kept_or_not(item):
    slices = slice_endpoints("")(item)
    if slices is not None:
        of_slices([slices], {})
    kept = keep_pod(item)
    if kept is not None:
        of_pods([kept], (1, 2), {})
    found = keep_pool(item)
    assert found is None or (found.selector and found.ports)
    assert set(keep_node(item)) <= {"topology.kubernetes.io/zone", "topology.kubernetes.io/region"}


def test_ports_that_are_none_count_for_nothing():
    for number in (0, -1, 65536, True, "8000", None):
        assert slice_endpoints("")(endpoint_slice("s", ports=(("a", number),))) is None
        assert keep_pool(pool("p", number, app="x")) is None


def test_a_pool_that_selects_everything_selects_nothing():
    assert keep_pool(pool("p", 8000)) is None


def test_a_pod_that_ends_is_out_at_once():
    one = pod("a", "10.0.0.1")
    assert keep_pod(one) is not None
    one["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert keep_pod(one) is None


def test_the_zone_of_a_slice_is_over_that_of_the_node():
    kept = slice_endpoints("")(endpoint_slice("s", slice_endpoint("a", "10.0.0.1", "n", "z-2")))
    (one,) = of_slices([kept], {"n": keep_node(node("n", "r", "z-1"))})
    assert one.labels == {
        "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z-2"
    }  # fmt: skip

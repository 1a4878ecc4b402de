"""A `contract.EndpointFinder` of a Service's EndpointSlices, or of an InferencePool's pods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from router.config.discovery_settings import KubernetesPlace
from router.contract import Clock, FindingsListener, Rng
from router.discovery.kubernetes.objects import (
    Labels,
    PodPlace,
    PoolSpec,
    SliceEndpoint,
    keep_node,
    keep_pod,
    keep_pool,
    of_pods,
    of_slices,
    slice_endpoints,
)
from router.discovery.kubernetes.reflector import Reflector, ResourceApi
from router.model import FoundEndpoint


class KubernetesFinder:
    """``connect``: opens `router.discovery.kubernetes.cluster.Cluster`."""

    def __init__(
        self,
        place: KubernetesPlace,
        connect: Callable[[], AbstractAsyncContextManager[ResourceApi]],
        clock: Clock,
        rng: Rng,
    ) -> None:
        self._place = place
        self._connect = connect
        self._clock = clock
        self._rng = rng

    async def run(self, listener: FindingsListener) -> None:
        """See `contract.EndpointFinder`."""
        place = self._place
        async with self._connect() as api, asyncio.TaskGroup() as group:
            looks = _Looks(place, api, self._clock, self._rng, group)
            while True:
                await looks.changed.wait()
                looks.changed.clear()
                found = looks.found()
                if found is not None:
                    listener.found(found)
                if why := looks.trouble():
                    listener.failed(why)


class _Looks:
    """The collections that one place takes, each with its task in ``group``."""

    def __init__(
        self,
        place: KubernetesPlace,
        api: ResourceApi,
        clock: Clock,
        rng: Rng,
        group: asyncio.TaskGroup,
    ) -> None:
        self.changed = asyncio.Event()
        self._place = place
        self._api = api
        self._clock = clock
        self._rng = rng
        self._group = group
        self._nodes: Reflector[Labels] | None = None
        self._slices: Reflector[tuple[SliceEndpoint, ...]] | None = None
        self._pools: Reflector[PoolSpec] | None = None
        self._pods: Reflector[PodPlace] | None = None
        self._pods_task: asyncio.Task[None] | None = None
        self._pool: PoolSpec | None = None
        # Told until those of another selector are listed.
        self._before: list[FoundEndpoint] | None = None
        spaced = f"namespaces/{place.namespace}"
        if place.nodes:
            self._nodes, _ = self._look("/api/v1/nodes", {}, keep_node, metadata_only=True)
        if place.service:
            query = {"labelSelector": f"kubernetes.io/service-name={place.service}"}
            path = f"/apis/discovery.k8s.io/v1/{spaced}/endpointslices"
            self._slices, _ = self._look(path, query, slice_endpoints(place.port))
        else:
            path = f"/apis/inference.networking.k8s.io/v1/{spaced}/inferencepools"
            query = {"fieldSelector": f"metadata.name={place.inference_pool}"}
            self._pools, _ = self._look(path, query, keep_pool)

    def found(self) -> list[FoundEndpoint] | None:
        """What is there, None where that is not known so far."""
        nodes = self._nodes
        if nodes is not None and not nodes.is_synced and not nodes.trouble:
            return None
        where = nodes.objects if nodes is not None else {}
        if self._slices is not None:
            return (
                of_slices(self._slices.objects.values(), where) if self._slices.is_synced else None
            )
        return self._of_pool(where)

    def trouble(self) -> str:
        """Why that may be old, or lacks where it is."""
        looks = (self._slices, self._pools, self._pods, self._nodes)
        whys = [look.trouble for look in looks if look is not None and look.trouble]
        if self._pools is not None and self._pools.is_synced and self._pool is None:
            whys.append(
                f"no InferencePool {self._place.inference_pool!r} with a selector and ports is in "
                f"{self._place.namespace}"
            )
        return "; ".join(whys)

    def _of_pool(self, nodes: Mapping[str, Labels]) -> list[FoundEndpoint] | None:
        pools = self._pools
        if pools is None or not pools.is_synced:
            return None
        pool = next(iter(pools.objects.values()), None)
        # One that went may come again; what it selected stays until then.
        if pool is not None and pool != self._pool:
            self._follow(pool)
        if self._pool is None or self._pods is None or not self._pods.is_synced:
            return self._before
        self._before = of_pods(self._pods.objects.values(), self._pool.ports, nodes)
        return self._before

    def _follow(self, pool: PoolSpec) -> None:
        selects_others = self._pool is None or pool.selector != self._pool.selector
        self._pool = pool
        if not selects_others:
            return
        if self._pods_task is not None:
            self._pods_task.cancel()
        path = f"/api/v1/namespaces/{self._place.namespace}/pods"
        self._pods, self._pods_task = self._look(path, {"labelSelector": pool.selector}, keep_pod)

    def _look(
        self,
        path: str,
        query: Mapping[str, str],
        keep: Callable[[Mapping[str, Any]], Any],
        metadata_only: bool = False,
    ) -> tuple[Reflector[Any], asyncio.Task[None]]:
        made: Reflector[Any] = Reflector(
            self._api, path, query, keep, self.changed.set, self._clock, self._rng, metadata_only
        )
        return made, self._group.create_task(made.run(), name=f"watch {path}")

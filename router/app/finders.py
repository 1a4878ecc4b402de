"""Places of discovery as configured -> who looks there."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

from router.config.discovery_settings import DiscoverySettings, DnsPlace, FilePlace
from router.contract import Clock, EndpointFinder, Rng
from router.discovery.file import FileFinder
from router.extras import need


def build_finder(settings: DiscoverySettings, clock: Clock, rng: Rng) -> EndpointFinder:
    """Who finds the endpoints of one place. Raises ConfigError where its extra is missing."""
    place = settings.place
    if isinstance(place, FilePlace):
        return FileFinder(place.file, place.look_s)
    where = f"discovery {settings.name}"
    if isinstance(place, DnsPlace):
        with need("dns", "discovery of kind dns", file=where):
            from router.discovery.dns import DnsFinder
        return DnsFinder(place, rng)
    with need("kubernetes", "discovery of kind kubernetes", file=where):
        # Imported where it is used, beside the event loop: that takes seconds.
        if find_spec("kubernetes_asyncio") is None:
            raise ImportError
    from router.discovery.kubernetes.cluster import Cluster
    from router.discovery.kubernetes.finder import KubernetesFinder

    connect = partial(Cluster, place.kubeconfig, place.context)
    return KubernetesFinder(place, connect, clock, rng)

"""Schemas of endpoints, given or to be found -> values."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from router.config.discovery import DiscoverySchema, DnsDiscoverySchema, FileDiscoverySchema
from router.config.discovery_settings import (
    DiscoverySettings,
    DnsPlace,
    FilePlace,
    KubernetesPlace,
    Place,
)
from router.config.endpoints import EndpointSchema, ServedSchema
from router.config.meters import build_meter
from router.config.tls import BackendsSchema, endpoint_access
from router.model import UNLIMITED, Endpoint, Profile, ServedModel, TaskProfile, TokenProfile


def build_endpoint(endpoint: EndpointSchema, profiles: Mapping[str, Profile]) -> Endpoint:
    """One that stands in the file."""
    metrics = endpoint.metrics
    return Endpoint(
        name=endpoint.name,
        region=endpoint.region,
        address=endpoint.host_port,
        protocol=endpoint.protocol,
        models=tuple(_served(one, endpoint.max_in_flight, profiles) for one in endpoint.models),
        max_in_flight=endpoint.max_in_flight,
        metrics_url=metrics.url if metrics else "",
        engine=metrics.engine if metrics else "",
        emulated=endpoint.emulated,
        meter=build_meter(endpoint.meter, metrics.url if metrics else ""),
    )


def build_discovery(
    at: str,
    schema: DiscoverySchema,
    backends: BackendsSchema,
    profiles: Mapping[str, Profile],
    folder: Path,
) -> DiscoverySettings:
    """A place where endpoints are found. ``at``: where it stands in the file."""
    wanted = schema.template
    metrics = wanted.metrics
    secure = wanted.tls is not None or backends.tls is not None
    return DiscoverySettings(
        name=schema.name,
        place=_place(schema, folder),
        template=Endpoint(
            name="",
            region="",
            address="",
            protocol=wanted.protocol,
            models=tuple(_served(one, wanted.max_in_flight, profiles) for one in wanted.models),
            max_in_flight=wanted.max_in_flight,
            metrics_url="",
            engine=metrics.engine if metrics else "",
            emulated=wanted.emulated,
        ),
        access=endpoint_access(
            f"{at}.template", secure, wanted.tls, wanted.credentials, backends, folder
        ),
        metrics_port=(metrics.port or 0) if metrics else 0,
        metrics_path=metrics.path if metrics else "",
        region=schema.region,
        regions=dict(schema.regions),
        region_labels=tuple(schema.region_labels),
        networks=tuple(ipaddress.ip_network(one) for one in schema.networks),
        max_endpoints=schema.max_endpoints,
    )


def _place(schema: DiscoverySchema, folder: Path) -> Place:
    if isinstance(schema, FileDiscoverySchema):
        return FilePlace(folder / schema.path, schema.look_s)
    if isinstance(schema, DnsDiscoverySchema):
        servers = tuple(schema.nameservers)
        return DnsPlace(schema.record, servers, schema.least_s, schema.most_s)
    return KubernetesPlace(
        namespace=schema.namespace,
        service=schema.service or "",
        inference_pool=schema.inference_pool or "",
        port="" if schema.port is None else str(schema.port),
        nodes=schema.nodes,
        kubeconfig=folder / schema.kubeconfig if schema.kubeconfig else None,
        context=schema.context,
    )


def _served(
    model: ServedSchema, max_in_flight: int, profiles: Mapping[str, Profile]
) -> ServedModel:
    profile = _capped(profiles[model.profile], max_in_flight)
    return ServedModel(
        name=model.name,
        version=model.version,
        profile=_caching(profile, model.prefix_cache_tokens),
        context_tokens=UNLIMITED if model.context_tokens is None else model.context_tokens,
    )


def _capped(profile: Profile, max_in_flight: int) -> Profile:
    """``profile`` priced at a load that the endpoint's cap lets it reach."""
    if isinstance(profile, TokenProfile) and profile.target_batch > max_in_flight:
        return replace(profile, target_batch=max_in_flight)
    return profile


def _caching(profile: Profile, prefix_cache_tokens: int | None) -> Profile:
    """``profile`` of a server that keeps so much of prompts; None: as the profile says."""
    if prefix_cache_tokens is None or isinstance(profile, TaskProfile):
        return profile
    return replace(profile, prefix_cache_tokens=prefix_cache_tokens)

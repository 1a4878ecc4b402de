"""Places of discovery as configured -> who looks there."""

from __future__ import annotations

from router.config.discovery_settings import DiscoverySettings
from router.contract import EndpointFinder
from router.discovery.file import FileFinder


def build_finder(settings: DiscoverySettings) -> EndpointFinder:
    """Who finds the endpoints of one place."""
    place = settings.place
    return FileFinder(place.file, place.look_s)

"""Where a provider is asked about, when not by the name of one of its own zones."""

from __future__ import annotations

from typing import NamedTuple


class Coordinates(NamedTuple):
    """Degrees, north and east positive."""

    lat: float
    lon: float


class DataCentre(NamedTuple):
    """A cloud region in its provider's words, lower case: ``gcp``, ``europe-west1``."""

    provider: str
    region: str

"""What hints are made from: a fleet, its grids, and what runs on each of its endpoints.

A gateway's own view has all of it; so has a simulated fleet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from router.core.columns import Snapshot


class ScaledEndpoint(Protocol):
    """One endpoint, now."""

    @property
    def batch(self) -> float:
        """Requests on it."""
        ...

    def serves(self, model: tuple[str, str]) -> bool:
        """Whether it is in service for a model and version."""
        ...


class ScaledBoard(Protocol):
    """All endpoints of the fleet."""

    @property
    def seats(self) -> Mapping[str, ScaledEndpoint]:
        """By name."""
        ...


class ScaledView(Protocol):
    """As `router.director.View`, as far as hints go."""

    @property
    def snapshot(self) -> Snapshot:
        """The fleet, and what is known of its grids."""
        ...

    @property
    def board(self) -> ScaledBoard:
        """What runs there."""
        ...

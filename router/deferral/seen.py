"""Batches as whoever looks on from outside sees them."""

from __future__ import annotations

from typing import NamedTuple

from router.deferral.values import Counts


class SeenKind(NamedTuple):
    """Jobs of one batch and model. ``why``: in a gateway's words, when it last planned; "" before
    one has."""

    model: str
    waiting: int
    under_way: int
    why: str


class SeenBatch(NamedTuple):
    """Times in unix s; ``gco2e`` and ``saved_g`` in grams, of the answers that said; None where
    none did."""

    id: str
    owner: str
    status: str
    created_at: float
    expires_at: float
    counts: Counts
    gco2e: float | None
    saved_g: float | None
    kinds: tuple[SeenKind, ...]

"""Which endpoints are candidates for which model, and in what order the kernel sees them.

A layout belongs to a fleet: snapshots (carbon, policy) and the live board share its row order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.errors import UnknownModelError
from router.model import Endpoint, Fleet, ServedModel

MAX_JURISDICTIONS = 62
# Stands for a version that no endpoint names: those that declare none may have it.
UNNAMED_VERSION = "*"


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The endpoints that serve one model, sorted by region; row i of every column is one of them.

    ``starts`` (regions + 1,): rows of region r are ``starts[r]:starts[r + 1]``. ``labels`` (n,):
    jurisdiction bits. ``rows``: those of each endpoint by name, several where it has several
    versions.
    """

    model: str
    version: str
    endpoints: tuple[Endpoint, ...]
    served: tuple[ServedModel, ...]
    regions: tuple[str, ...]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    rows: Mapping[str, Sequence[int]]


class Layout:
    """Candidates of every (model, version) of a fleet; version "" asks for any, and an endpoint
    that declares version "" is taken to have every version."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        jurisdictions = sorted({name for r in fleet.regions.values() for name in r.residency})
        self._bits = {name: 1 << i for i, name in enumerate(jurisdictions[:MAX_JURISDICTIONS])}
        pairs = sorted(
            ((endpoint, served) for endpoint in fleet.endpoints for served in endpoint.models),
            key=lambda pair: (pair[0].region, pair[0].name),
        )
        keys = {(served.name, "") for _, served in pairs}
        keys |= {(served.name, served.version or UNNAMED_VERSION) for _, served in pairs}
        self.candidates: Mapping[tuple[str, str], Candidates] = {
            key: self._candidates(key, pairs) for key in sorted(keys)
        }

    def find(self, model: str, version: str) -> Candidates:
        """Candidates for a model in a version; raises UnknownModelError."""
        found = self.candidates.get((model, version))
        if found is None:
            found = self.candidates.get((model, UNNAMED_VERSION))
        if found is None:
            known = ", ".join(sorted({name for name, _ in self.candidates}))
            what = f"model {model!r}" + (f" version {version!r}" if version else "")
            raise UnknownModelError(f"no endpoint serves {what}; this fleet serves: {known}")
        return found

    def residency_mask(self, residency: frozenset[str]) -> int:
        """Bits of the allowed jurisdictions: 0 for anywhere, -1 << 62 when none is known here."""
        if not residency:
            return 0
        mask = 0
        for name in residency:
            mask |= self._bits.get(name, 0)
        return mask or -1 << MAX_JURISDICTIONS

    def _candidates(
        self, key: tuple[str, str], pairs: Sequence[tuple[Endpoint, ServedModel]]
    ) -> Candidates:
        model, version = key
        mine = [
            (endpoint, served)
            for endpoint, served in pairs
            if served.name == model and (not version or served.version in ("", version))
        ]
        regions = tuple(dict.fromkeys(endpoint.region for endpoint, _ in mine))
        rows: dict[str, list[int]] = {}
        for row, (endpoint, _) in enumerate(mine):
            rows.setdefault(endpoint.name, []).append(row)
        counts = [sum(endpoint.region == region for endpoint, _ in mine) for region in regions]
        return Candidates(
            model=model,
            version=version,
            endpoints=tuple(endpoint for endpoint, _ in mine),
            served=tuple(served for _, served in mine),
            regions=regions,
            starts=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
            labels=np.array([self._label(endpoint.region) for endpoint, _ in mine], np.int64),
            rows=rows,
        )

    def _label(self, region: str) -> int:
        return sum(self._bits.get(name, 0) for name in self.fleet.regions[region].residency)

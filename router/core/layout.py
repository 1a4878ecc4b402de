"""Which endpoints are candidates for which model, and in what order the kernel sees them.

A layout belongs to a fleet: snapshots (carbon, policy) and the live board share its row order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from router.errors import InvalidMetadataError, NothingFeasibleError, UnknownModelError
from router.model import Alias, Endpoint, Fleet, Request, ServedModel

# A bit each in a signed 64-bit mask, but for the sign. A mask of 0 is nowhere.
MAX_RESIDENCY_SETS = 62
ANYWHERE = -1
# Stands for a version that no endpoint names: those that declare none may have it.
UNNAMED_VERSION = "*"

# After it comes, in place of a version, the first variant of an alias that candidates are of. No
# version that a server has begins so.
_VARIANTS_FROM = "\0variants from "

# Tokens of input plus output that servers say they take, by names of endpoint and model.
StatedContexts: TypeAlias = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The endpoints that serve one model, or one of the variants of an alias that reach a quality,
    sorted by region; row i of every column is one of them.

    ``starts`` (regions + 1,): rows of region r are ``starts[r]:starts[r + 1]``. ``labels`` (n,):
    the bit of what the row's region lies in, 0 where the model may not run there. ``rows``: those
    of each endpoint by name, several where it has several versions or variants.
    """

    model: str
    version: str
    endpoints: tuple[Endpoint, ...]
    served: tuple[ServedModel, ...]
    regions: tuple[str, ...]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    rows: Mapping[str, Sequence[int]]

    def row_of(self, endpoint: Endpoint, served: ServedModel) -> int:
        """That of a model in a version on an endpoint. Raises StopIteration where there is none."""
        wanted = served.name, served.version
        return next(
            row
            for row in self.rows[endpoint.name]
            if (self.served[row].name, self.served[row].version) == wanted
        )


class Layout:
    """Candidates of every (model, version) of a fleet; version "" asks for any, and an endpoint
    that declares version "" is taken to have every version. Of an alias, which has no versions,
    there are candidates for each floor that some variant of it just reaches: all that may serve a
    request are one range of rows, and which variant serves it and where is one choice.

    Regions that lie in the same jurisdictions share one bit, so that "lies in one of these" is one
    mask, and masks of several parties meet by a bitwise and.

    What a server says of its context only narrows what is configured, and stands in where nothing
    is: no word of its own brings it a request that the operator did not mean for it.
    """

    def __init__(self, fleet: Fleet, stated: StatedContexts = MappingProxyType({})) -> None:
        self.fleet = fleet
        self.stated = stated
        # By model: what the endpoints that serve it speak, which is one protocol.
        self.protocols: Mapping[str, str] = {
            served.name: endpoint.protocol
            for endpoint in fleet.endpoints
            for served in endpoint.models
        }
        # By model: input plus output that one of them takes at most.
        self.contexts: dict[str, float] = {}
        sets = sorted({region.residency for region in fleet.regions.values()}, key=sorted)
        self._bits = {residency: 1 << place for place, residency in enumerate(sets)}
        self._masks: dict[str, int] = {}
        for residency, bit in self._bits.items():
            for name in residency:
                self._masks[name] = self._masks.get(name, 0) | bit
        self.tenants = {
            tenant: self.residency_mask(names) for tenant, names in fleet.residency.tenants.items()
        }
        pairs = sorted(
            (
                (endpoint, narrowed(served, stated.get((endpoint.name, served.name), math.inf)))
                for endpoint in fleet.endpoints
                for served in endpoint.models
            ),
            key=lambda pair: (pair[0].region, pair[0].name),
        )
        for _, served in pairs:
            longest = max(self.contexts.get(served.name, 0.0), served.context_tokens)
            self.contexts[served.name] = longest
        keys = {(served.name, "") for _, served in pairs}
        keys |= {(served.name, served.version or UNNAMED_VERSION) for _, served in pairs}
        found = {
            key: self._candidates(
                key,
                [
                    (endpoint, served)
                    for endpoint, served in pairs
                    if served.name == key[0] and (not key[1] or served.version in ("", key[1]))
                ],
            )
            for key in sorted(keys)
        }
        for alias in fleet.aliases.values():
            found |= self._of_alias(alias, pairs)
        self.candidates: Mapping[tuple[str, str], Candidates] = found

    def find(self, model: str, version: str) -> Candidates:
        """Candidates for a model in a version, of an alias with any of its variants; raises
        UnknownModelError, and NothingFeasibleError for a model whose endpoints discovery has still
        to find."""
        if version and model in self.fleet.aliases:
            raise UnknownModelError(f"{model!r} is an alias: it has variants, and no versions")
        found = self.candidates.get((model, version))
        if found is None:
            found = self.candidates.get((model, UNNAMED_VERSION))
        if found is None and model in self.fleet.priors and model not in self.protocols:
            raise NothingFeasibleError(f"no endpoint of model {model!r} has been found so far")
        if found is None:
            known = ", ".join(sorted({name for name, _ in self.candidates}))
            what = f"model {model!r}" + (f" version {version!r}" if version else "")
            raise UnknownModelError(f"no endpoint serves {what}; this fleet serves: {known}")
        return found

    def find_for(self, request: Request) -> Candidates:
        """`find`, of those that reach the request's quality floors; raises as that does, and
        InvalidMetadataError where no variant does."""
        found = self.find(request.model, request.version)
        alias = self.fleet.aliases.get(request.model)
        floor = request.least_quality
        if alias is None or not floor:
            return found
        rank = alias.rank(floor)
        if rank == len(alias.variants):
            best = alias.variants[-1]
            raise InvalidMetadataError(
                f"x-quality-floor: no variant of {alias.name!r} has a quality of {floor:g}: the "
                f"best, {best.model!r}, has {best.quality:g}"
            )
        if rank == 0:
            return found
        above = self.candidates.get((alias.name, _variants_from(rank)))
        if above is None:
            raise NothingFeasibleError(
                f"no endpoint of a variant of {alias.name!r} with a quality of {floor:g} has been "
                "found so far"
            )
        return above

    def residency_mask(self, residency: frozenset[str]) -> int:
        """Bits of the regions that lie in one of these jurisdictions; `ANYWHERE` for none.

        Masks meet by ``&``.
        """
        if not residency:
            return ANYWHERE
        mask = 0
        for name in residency:
            mask |= self._masks.get(name, 0)
        return mask

    def tenant_mask(self, tenant: str) -> int:
        """As `residency_mask`, of what the operator allows a tenant.

        Raises InvalidMetadataError for one that is not listed, where only listed ones are served: a
        caller could leave its name out to lift its limit.
        """
        mask = self.tenants.get(tenant)
        if mask is not None:
            return mask
        if not self.tenants or self.fleet.residency.serves_unlisted:
            return ANYWHERE
        what = f"{tenant!r} is not a tenant of this gateway" if tenant else "missing"
        raise InvalidMetadataError(
            f"x-tenant: {what}; only tenants that the operator lists are served"
        )

    def known(self, residency: frozenset[str]) -> frozenset[str]:
        """Those of these jurisdictions in which a region lies."""
        return residency & self._masks.keys()

    def _of_alias(
        self, alias: Alias, pairs: Sequence[tuple[Endpoint, ServedModel]]
    ) -> dict[tuple[str, str], Candidates]:
        """By key, of its variants from each on, as far as any endpoint serves them."""
        found = {}
        for rank in range(len(alias.variants)):
            names = {one.model for one in alias.variants[rank:]}
            mine = [pair for pair in pairs if pair[1].name in names]
            if not mine:
                break
            key = (alias.name, _variants_from(rank) if rank else "")
            found[key] = self._candidates(key, mine)
        if found:
            protocol = found[alias.name, ""].endpoints[0].protocol
            self.protocols = {**self.protocols, alias.name: protocol}
            self.contexts[alias.name] = max(
                self.contexts[one.model] for one in alias.variants if one.model in self.contexts
            )
        return found

    def _candidates(
        self, key: tuple[str, str], mine: Sequence[tuple[Endpoint, ServedModel]]
    ) -> Candidates:
        model, version = key
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
            labels=np.array(
                [self._label(served.name, endpoint) for endpoint, served in mine], np.int64
            ),
            rows=rows,
        )

    def _label(self, model: str, endpoint: Endpoint) -> int:
        region = self.fleet.regions[endpoint.region]
        allowed = self.fleet.residency.models.get(model, frozenset())
        return self._bits[region.residency] if region.lies_in(allowed) else 0


def _variants_from(rank: int) -> str:
    return f"{_VARIANTS_FROM}{rank}"


def narrowed(served: ServedModel, context_tokens: float) -> ServedModel:
    """``served`` with a context of no more than ``context_tokens``; inf: as it is."""
    if context_tokens >= served.context_tokens:
        return served
    return replace(served, context_tokens=context_tokens)

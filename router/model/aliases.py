"""Names that stand for any of several models, and what quality those who ask are owed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple


class Variant(NamedTuple):
    """A model that an alias may stand for. ``quality``: its score by the alias's source, above 0
    and up to 1."""

    model: str
    quality: float


class QualityFloors(NamedTuple):
    """What qualities an alias is served with: of ``each`` request at the least, and in the
    ``mean`` over the alias's window; 0 where there is no such floor."""

    each: float = 0.0
    mean: float = 0.0


_NO_FLOORS: Final = QualityFloors()


class RulesJudge(NamedTuple):
    """Goes by what can be read off an answer. ``phrases``: none of which it may hold."""

    phrases: tuple[str, ...] = ()


class HttpJudge(NamedTuple):
    """A service that is asked about each answer, and has ``timeout_s`` to say."""

    url: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that stands for any of several models. ``variants``: from the least quality to the
    best, one at the least; ``source``: who scored them, and by what.

    ``floors``: of tenants that are not in ``tenants``. ``window_s``: over which a mean is kept.
    ``judge``: of whether an answer is good enough, or a better variant is asked; None: it is.
    """

    name: str
    variants: tuple[Variant, ...]
    source: str
    floors: QualityFloors = _NO_FLOORS
    tenants: Mapping[str, QualityFloors] = field(default_factory=dict)
    window_s: float = 86_400.0
    judge: RulesJudge | HttpJudge | None = None

    def floors_of(self, tenant: str) -> QualityFloors:
        """What is agreed with one tenant."""
        return self.tenants.get(tenant, self.floors)

    def quality_of(self, model: str) -> float:
        """Of one of its variants; NaN of another model."""
        return next((one.quality for one in self.variants if one.model == model), math.nan)

    def above(self, quality: float) -> float:
        """The quality of the next better variant; NaN where none is better."""
        return next((one.quality for one in self.variants if one.quality > quality), math.nan)

    def rank(self, floor: float) -> int:
        """The first of its variants that reaches ``floor``; as many as there are where none
        does."""
        return next(
            (place for place, one in enumerate(self.variants) if one.quality >= floor),
            len(self.variants),
        )

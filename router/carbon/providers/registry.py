"""Every live provider: the built-in ones, here and only here, and those of installed packages.

A package offers a provider by an entry point of the group ``carbon_router.providers``, whose name
is the provider's ``kind`` and whose object is its `ProviderSchema`. It is imported when a file
names it, never before; one that cannot be used is told where it is named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Final, Literal

from pydantic import create_model, model_validator

from router.carbon.providers import (
    eia,
    electricity_maps,
    energy_charts,
    entsoe,
    gb,
    watttime,
)  # fmt: skip
from router.carbon.providers.schema import ProviderSchema
from router.config.live import LimitSchema
from router.config.problems import tag
from router.config.sources import TABLES

GROUP: Final = "carbon_router.providers"
_KIND: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)

# In the order of `zones`.
BUILT_IN: Final[tuple[type[ProviderSchema], ...]] = (
    electricity_maps.ElectricityMapsSchema,
    watttime.WattTimeSchema,
    gb.GreatBritainSchema,
    energy_charts.EnergyChartsSchema,
    eia.EiaSchema,
    entsoe.EntsoeSchema,
)


def providers(named: Collection[str] | None = None) -> Mapping[str, type[ProviderSchema]]:
    """Every live provider by kind. Of those of packages, only ``named`` are imported (None: all).

    The schema of one that was not, that cannot be, or whose name is taken refuses whatever it is
    given, in words.
    """
    found = {str(tag(schema)): schema for schema in BUILT_IN}
    taken = {*TABLES, *found}
    offers = entry_points(group=GROUP)
    for kind in sorted(offers.names):
        points = sorted(offers.select(name=kind), key=_package)
        if kind in taken:
            found[kind] = _refusing(points, "which is the name of a built-in source: remove it")
        elif len(points) > 1:
            found[kind] = _refusing(points, "and there can be but one: remove the others")
        elif named is None or kind in named:
            found[kind] = _imported(points[0])
        else:
            found[kind] = _refusing(points, "which was not imported")
    return found


def why_unusable(kind: str) -> str:
    """Why the provider of a package cannot be used; "" of one that can, or that nobody offers."""
    schema = providers().get(kind)
    return schema.why if schema is not None and issubclass(schema, _StandIn) else ""


def _imported(point: EntryPoint) -> type[ProviderSchema]:
    try:
        schema = point.load()
    except (Exception, SystemExit) as error:
        # Whatever code of others raises as it is imported; a reload must not end in it.
        why = f"cannot be imported ({type(error).__name__}: {error})"
    else:
        if not (isinstance(schema, type) and issubclass(schema, ProviderSchema)):
            why = "is no ProviderSchema"
        elif not _KIND.fullmatch(point.name):
            why = "has a name that is no kind: lower-case letters, digits and _"
        elif tag(schema) != point.name:
            why = f"has kind {tag(schema)!r}"
        elif schema.build is ProviderSchema.build:
            why = "has no build"
        elif missing := _needed(schema) - schema.model_fields.keys():
            why = f"has no {min(missing)}"
        elif schema.model_fields["limits"].annotation != list[LimitSchema]:
            why = "has limits that are no list[LimitSchema] (see call_limits)"
        else:
            return schema
    return _refusing([point], f"but {point.value} {why}: mend or remove it")


def _needed(schema: type[ProviderSchema]) -> set[str]:
    """The keys that the room counts on."""
    return {"limits", *(f"{stem}_{way}" for stem in schema.credentials for way in ("env", "file"))}


def _refusing(points: Sequence[EntryPoint], why: str) -> type[ProviderSchema]:
    packages = " and ".join(map(_package, points))
    return _stand_in(points[0].name, f"{points[0].name!r} is offered by {packages}, {why}")


def _package(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else point.value


class _StandIn(ProviderSchema):
    """Takes the place of a provider that cannot be used: ``why``."""

    why: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, given: Any) -> Any:
        raise ValueError(cls.why)


@cache
def _stand_in(kind: str, why: str) -> type[ProviderSchema]:
    own: Any = Literal[kind]
    made = create_model("StandIn", __base__=_StandIn, kind=(own, ...))
    made.why = why
    return made

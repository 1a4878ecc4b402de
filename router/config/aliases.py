"""``aliases`` of the file: names that stand for any of several models, each with a quality."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated

from pydantic import Field

from router.config.fields import Name, Strict, Text
from router.config.problems import Problem, key_path, unknown
from router.model import Alias, QualityFloors, Variant
from router.units import HOUR_S

Quality = Annotated[float, Field(gt=0, le=1)]
# Of a floor 0 is none.
Floor = Annotated[float, Field(ge=0, le=1)]


class FloorsSchema(Strict):
    """The least quality that requests of one tenant are served with."""

    floor: Floor = Field(default=0.0, description="of each request; 0: any variant")
    mean_floor: Floor = Field(
        default=0.0, description="in the mean over `window_h`, of each gateway process; 0: none"
    )

    def build(self) -> QualityFloors:
        """As a value."""
        return QualityFloors(self.floor, self.mean_floor)


class AliasSchema(FloorsSchema):
    """A model name that callers may use and no server has."""

    source: Text = Field(description="who scored the variants, and by what")
    variants: dict[Name, Quality] = Field(
        min_length=1,
        max_length=16,
        description="models that it may stand for, each with its quality by `source`, above 0 and "
        "up to 1",
    )
    window_h: float = Field(
        default=24.0, ge=1, le=168, description="hours over which a mean is kept"
    )
    tenants: dict[Name, FloorsSchema] = Field(
        default_factory=dict, description="by x-tenant: instead of the floors beside it"
    )

    def build_alias(self, name: str) -> Alias:
        """As a value."""
        ordered = sorted(self.variants.items(), key=lambda one: (one[1], one[0]))
        return Alias(
            name,
            tuple(Variant(*one) for one in ordered),
            self.source,
            self.build(),
            {tenant: floors.build() for tenant, floors in self.tenants.items()},
            self.window_h * HOUR_S,
        )


def build_aliases(aliases: Mapping[str, AliasSchema]) -> dict[str, Alias]:
    """By name."""
    return {name: schema.build_alias(name) for name, schema in aliases.items()}


def check_aliases(
    aliases: Mapping[str, AliasSchema],
    protocols: Mapping[str, str],
    residency: Mapping[str, Collection[str] | None],
) -> list[Problem]:
    """Aliases are no models, and stand for models that are served alike. ``protocols``: by model,
    of all that are served; ``residency``: by model, where it may run, None anywhere."""
    problems: list[Problem] = []
    for name, schema in aliases.items():
        at = key_path(["aliases", name])
        if name in protocols:
            text = "is the name of a model that is served, too; give the alias another"
            problems.append((at, text))
        problems += _of_variants(at, schema, aliases, protocols, residency)
        problems += _of_floors(name, schema)
    return problems


def _of_variants(
    at: str,
    schema: AliasSchema,
    aliases: Mapping[str, AliasSchema],
    protocols: Mapping[str, str],
    residency: Mapping[str, Collection[str] | None],
) -> Iterator[Problem]:
    first = ""
    for model in schema.variants:
        where = f"{at}.{key_path(['variants', model])}"
        if model in aliases:
            yield where, f"{model!r} is an alias itself; name the models that it stands for"
        elif model not in protocols:
            yield where, unknown("model", model, protocols)
        elif not first:
            first = model
        elif protocols[model] != protocols[first]:
            yield (
                where,
                f"{model!r} is served over {protocols[model]}, and {first!r} over "
                f"{protocols[first]}: one request cannot go to either",
            )
        elif set(residency.get(model) or ()) != set(residency.get(first) or ()):
            yield (
                where,
                f"models.{model}.residency is not that of {first!r}; give all variants the same",
            )


def _of_floors(name: str, schema: AliasSchema) -> Iterator[Problem]:
    best = max(schema.variants.values())
    given: list[tuple[list[str | int], FloorsSchema]] = [(["aliases", name], schema)]
    given += [(["aliases", name, "tenants", who], one) for who, one in schema.tenants.items()]
    for steps, floors in given:
        for key, floor in (("floor", floors.floor), ("mean_floor", floors.mean_floor)):
            if floor > best:
                text = f"{floor:g} is more than the best variant has, {best:g}"
                yield key_path([*steps, key]), text

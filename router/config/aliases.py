"""``aliases`` of the file: names that stand for any of several models, each with a quality."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from router.config.fields import BaseUrl, Name, Strict, Text
from router.config.problems import Problem, key_path, unknown
from router.model import Alias, HttpJudge, QualityFloors, RulesJudge, Variant
from router.units import HOUR_S, MS_PER_S

Quality = Annotated[float, Field(gt=0, le=1)]
# Of a floor 0 is none.
Floor = Annotated[float, Field(ge=0, le=1)]
# Of the protocols, that whose answers a judge can read.
_JUDGED: Final = "openai"


class FloorsSchema(Strict):
    """The least quality that requests of one tenant are served with."""

    floor: Floor = Field(default=0.0, description="of each request; 0: any variant")
    mean_floor: Floor = Field(
        default=0.0, description="in the mean over `window_h`, of each gateway process; 0: none"
    )

    def build(self) -> QualityFloors:
        """As a value."""
        return QualityFloors(self.floor, self.mean_floor)


class RulesJudgeSchema(Strict):
    """Reads answers: whatever is empty, refuses, or breaks the form that was asked for."""

    kind: Literal["rules"] = Field(description="selects this judge")
    phrases: list[Text] = Field(
        default_factory=list,
        max_length=64,
        description="an answer that holds one of them, in capitals or small letters, is not "
        "accepted either",
    )

    def build(self) -> RulesJudge:
        """As a value."""
        return RulesJudge(tuple(self.phrases))


class HttpJudgeSchema(Strict):
    """A service that says of each answer whether it is good enough."""

    kind: Literal["http"] = Field(description="selects this judge")
    url: BaseUrl = Field(description="asked by POST (docs/variants.md)")
    timeout_ms: float = Field(
        default=1000.0, ge=1, le=60_000, description="then the answer stands, ms"
    )

    def build(self) -> HttpJudge:
        """As a value."""
        return HttpJudge(self.url, self.timeout_ms / MS_PER_S)


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
    judge: Annotated[RulesJudgeSchema | HttpJudgeSchema, Field(discriminator="kind")] | None = (
        Field(
            default=None,
            description="who says whether an answer is good enough: a better variant is asked "
            "where it is not; left out: every answer is",
        )
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
            None if self.judge is None else self.judge.build(),
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
        problems += _of_judge(at, schema, protocols)
    return problems


def _of_judge(at: str, schema: AliasSchema, protocols: Mapping[str, str]) -> Iterator[Problem]:
    if schema.judge is None:
        return
    if len(set(schema.variants.values())) == 1:
        yield f"{at}.judge", "no variant is better than another: there is none to go on to"
    spoken = {protocols[model] for model in schema.variants if model in protocols}
    if spoken - {_JUDGED}:
        yield f"{at}.judge", f"judges read JSON, of variants that are served over {_JUDGED} alone"


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

"""`workload.generate` of a scenario -> a workload: names resolved, rates worked out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from router.config.problems import Problem, key_path, unknown
from router.core.burden import context_tokens
from router.errors import ConfigError
from router.lab.replay.physics import Physics
from router.lab.sim.traffic.generate import Generated, Origin, Recipe, RequestKind
from router.lab.sim.traffic.schema import (
    ClassSchema,
    DaySchema,
    GenerateSchema,
    LengthsSchema,
    LogNormalSchema,
    QuantilesSchema,
    TalksSchema,
)
from router.lab.sim.traffic.tables import (
    FLAT,
    INPUT,
    OUTPUT,
    PRESETS,
    Lengths,
    Preset,
    Shape,
    constant_lengths,
    cut,
    lengths_named,
    lengths_of_log_normal,
    lengths_of_quantiles,
    normalised,
    shape_named,
)
from router.lab.sim.traffic.talks import Talks
from router.model import Fleet


class _Maker:
    """Resolves names, and collects what cannot be resolved."""

    def __init__(self, schema: GenerateSchema, fleet: Fleet) -> None:
        self.schema = schema
        self.fleet = fleet
        self.problems: list[Problem] = []
        self.preset = self._preset()

    def problem(self, steps: list[str | int], text: str) -> None:
        self.problems.append((key_path(["workload", "generate", *steps]), text))

    def _preset(self) -> Preset | None:
        name = self.schema.preset
        if name is not None and name not in PRESETS:
            self.problem(["preset"], unknown("preset", name, PRESETS))
        return PRESETS.get(name or "")

    def shape(self, wanted: DaySchema | None, steps: list[str | int], fallback: Shape) -> Shape:
        """``wanted`` by name or by its 24 values; ``fallback`` where there is none."""
        if wanted is None:
            return fallback
        try:
            if isinstance(wanted, str):
                return shape_named(wanted)
            return Shape(normalised(wanted), FLAT.days, 0.0, 60.0)
        except ValueError as error:
            self.problem(steps, str(error))
            return fallback

    def days(self, shape: Shape) -> tuple[float, ...]:
        """The week: the scenario's own, else the shape's."""
        if self.schema.week is None:
            return shape.days
        try:
            return normalised(self.schema.week)
        except ValueError as error:
            self.problem(["week"], str(error))
            return shape.days

    def origins(self, rps: float) -> tuple[Origin, ...]:
        """Every origin at its share of ``rps``."""
        whole = self.shape(
            self.schema.day, ["day"], shape_named(self.preset.shape) if self.preset else FLAT
        )
        shares = math.fsum(demand.share for demand in self.schema.origins.values())
        found = []
        for name, demand in self.schema.origins.items():
            if name not in self.fleet.rtt_ms and not self.fleet.default_origin:
                text = f"no round-trip times: {unknown('origin', name, self.fleet.rtt_ms)}"
                self.problem(["origins", name], text)
            shape = self.shape(demand.day, ["origins", name, "day"], whole)
            share = demand.share / shares
            found.append(
                Origin(name, rps * share, demand.utc_offset_h, shape.hours, self.days(shape))
            )
        return tuple(found)

    def lengths(
        self, wanted: LengthsSchema | None, field: str, longest: float, steps: list[str | int]
    ) -> Lengths:
        """Lengths as wanted, else the preset's, cut to ``longest``."""
        if wanted is None:
            if self.preset is None:
                self.problem(steps, "required without a preset: a table's name, a number, ...")
                return constant_lengths(1.0)
            wanted = self.preset.lengths
        try:
            return cut(_lengths(wanted, field), longest)
        except ValueError as error:
            self.problem(steps, str(error))
            return constant_lengths(1.0)

    def kind(self, place: int, one: ClassSchema) -> RequestKind:
        """One class of requests."""
        at: list[str | int] = ["classes", place]
        if one.talks is not None and one.talks.shared_tokens >= one.max_input_tokens:
            text = f"must be below max_input_tokens, {one.max_input_tokens:g}"
            self.problem([*at, "talks", "shared_tokens"], text)
        models = {served.name for endpoint in self.fleet.endpoints for served in endpoint.models}
        models |= self.fleet.aliases.keys()
        if one.model not in models:
            self.problem([*at, "model"], unknown("model", one.model, models))
        elif one.model in self.fleet.aliases and self.schema.load is not None:
            text = "an alias has no capacity of its own: give mean_rps instead of load"
            self.problem([*at, "model"], text)
        return RequestKind(
            model=one.model,
            share=one.share,
            input_tokens=self.lengths(
                one.input_tokens, INPUT, one.max_input_tokens, [*at, "input_tokens"]
            ),
            output_tokens=self.lengths(
                one.output_tokens, OUTPUT, one.max_output_tokens, [*at, "output_tokens"]
            ),
            budget=one.budget.build(),
            tenants=tuple(one.tenants.items()) or (("", 1.0),),
            residency=frozenset(one.residency),
            deadline_s=math.inf if one.deadline is None else one.deadline,
            talks=None if one.talks is None else _talks(one, one.talks),
        )

    def bursts(self) -> tuple[float, float]:
        """(cv, window in s)."""
        if self.schema.burstiness is not None:
            return self.schema.burstiness.cv, self.schema.burstiness.window
        if self.preset is not None:
            return self.preset.burst_cv, self.preset.burst_window_s
        return 0.0, 60.0


def make_workload(
    schema: GenerateSchema, file: Path, fleet: Fleet, start: float, duration_s: float, seed: int
) -> Generated:
    """Requests as `generate` describes them. Raises ConfigError with every problem found."""
    maker = _Maker(schema, fleet)
    kinds = tuple(maker.kind(place, one) for place, one in enumerate(schema.classes))
    maker.origins(1.0)
    if maker.problems:
        raise ConfigError(str(file), maker.problems)
    rps = schema.mean_rps
    if rps is None:
        rps = (schema.load or 0.0) * capacity_rps(fleet, kinds)
        if rps <= 0.0:
            raise ConfigError(str(file), [("workload.generate.load", "must be above 0")])
    cv, window_s = maker.bursts()
    return Generated(Recipe(maker.origins(rps), kinds, cv, window_s, start, duration_s, seed))


class _Need(NamedTuple):
    share: float
    input_tokens: float
    output_tokens: float


def capacity_rps(fleet: Fleet, kinds: tuple[RequestKind, ...]) -> float:
    """Requests/s of the mix of ``kinds`` that the fleet serves with ``max_in_flight`` everywhere.

    Where several models are served, the one that fills first decides. Bursts, round trips and
    latency budgets, which keep replicas from being full, are not counted, nor are prompts that
    need not be read because they are cached.
    """
    total = math.fsum(kind.share for kind in kinds)
    needs: dict[str, list[_Need]] = {}
    for kind in kinds:
        means = kind.mean_input_tokens, float(kind.output_tokens.mean())
        needs.setdefault(kind.model, []).append(_Need(kind.share / total, *means))
    least = math.inf
    for model, mix in needs.items():
        share = math.fsum(need.share for need in mix)
        n_in = math.fsum(need.share * need.input_tokens for need in mix) / share
        n_out = math.fsum(need.share * need.output_tokens for need in mix) / share
        served = 0.0
        for endpoint in fleet.endpoints:
            for one in endpoint.models:
                if one.name == model:
                    physics = Physics.of(one.profile)
                    batch = min(endpoint.max_in_flight, physics.max_batch)
                    served += batch / residence_s(physics, n_in, n_out, batch)
        least = min(least, served / share)
    return least


def residence_s(physics: Physics, input_tokens: float, output_tokens: float, batch: int) -> float:
    """How long a request is there while ``batch`` are, all alike.

    Each of its iterations serves ``batch`` sequences and reads on the mean a prompt's share of as
    many: with n tokens each that is 1 / n of all of their prompts.
    """
    if physics.one_unit:
        return physics.tpot_s(batch)
    cached = batch * context_tokens(input_tokens, output_tokens)
    return output_tokens * physics.tpot_s(batch, cached) + batch * physics.prompt_s(input_tokens)


def _talks(one: ClassSchema, wanted: TalksSchema) -> Talks:
    return Talks(
        wanted.shared_tokens, wanted.shared_texts, wanted.turns, wanted.pause, one.max_input_tokens
    )


def _lengths(wanted: LengthsSchema, field: str) -> Lengths:
    if isinstance(wanted, str):
        return lengths_named(wanted, field)
    if isinstance(wanted, LogNormalSchema):
        return lengths_of_log_normal(wanted.mean, wanted.p95)
    if isinstance(wanted, QuantilesSchema):
        try:
            points = {float(key): tokens for key, tokens in wanted.quantiles.items()}
        except ValueError:
            raise ValueError("a quantile's key is its probability, such as '0.95'") from None
        return lengths_of_quantiles(points)
    return constant_lengths(wanted)

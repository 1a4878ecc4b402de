"""``carbon-router bound``: the least grams that any router could have emitted."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.errors import ConfigError
from router.lab.sim.bound.plan import KINDS, Plans
from router.lab.sim.bound.plan import plans as plans_of
from router.lab.sim.bound.run import Bound, bound, regret
from router.lab.sim.fields import Period
from router.lab.sim.scenario.loading import Loaded, load
from router.lab.study.distance import plan_values, whole_values
from router.lab.study.execute import TaskProgress
from router.lab.study.input_files import read_inputs
from router.lab.study.report.units import grams, joules, percent, signed_percent
from router.units import HOUR_S
from router.unknown_figures import plain_values

_LEAST_SLOT_S = 1.0
NO_PLANS: Final = "plans of whole replicas let nothing wait: leave --plans out, or deadlines"


class Bounded(NamedTuple):
    """A scenario's bounds, one a policy that was asked for, and as many plans or none."""

    loaded: Loaded
    digest: str
    bounds: tuple[Bound, ...]
    plans: tuple[Plans, ...] = ()


def parse_slot(text: str) -> float:
    """Seconds of such as 900, 15m, 1h. Raises ValueError saying what is wrong."""
    try:
        slot_s: float = TypeAdapter(Period).validate_python(
            float(text) if text.isdecimal() else text
        )
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
    if not _LEAST_SLOT_S <= slot_s <= HOUR_S:
        raise ValueError(f"a slot lasts from {_LEAST_SLOT_S:g} s to an hour, not {slot_s:g} s")
    return slot_s


def bound_scenario(
    file: Path,
    policies: Sequence[str] = (),
    *,
    slot_s: float = HOUR_S,
    seed: int | None = None,
    plans: bool = False,
    progress: TaskProgress = TaskProgress(),  # noqa: B008
) -> Bounded:
    """The bound of a scenario file under each policy's latency limits, with ``plans`` of whole
    replicas beside it if wanted.

    Raises ConfigError, TraceError.
    """
    loaded = load(file, policies, seed=seed).deferring()
    if plans and loaded.simulation.defers:
        raise ConfigError(str(file), [("workload", NO_PLANS)])
    asked = loaded.simulation.policies
    shares = [0.0] * len(asked)
    progress.begin([policy.name for policy in asked])
    found, planned = [], []
    for place, policy in enumerate(asked):

        def show(share: float, place: int = place) -> None:
            shares[place] = max(shares[place], share)
            progress.show(shares)

        if plans:
            planned.append(plans_of(loaded.simulation, policy, progress=show))
        found.append(bound(loaded.simulation, policy, slot_s, progress=show, whole=plans))
    return Bounded(loaded, read_inputs(file).digest, tuple(found), tuple(planned))


def bound_json(bounded: Bounded) -> str:
    """All figures; those that are unknown are null. ``kind`` says what they are."""
    simulation = bounded.loaded.simulation
    whole = {
        "scenario": simulation.name,
        "digest": bounded.digest,
        "seed": simulation.seed,
        "kind": "estimated",
        "carbon_signal": {
            "basis": str(simulation.carbon_signal.basis),
            "factors": str(simulation.carbon_signal.factors),
        },
        "notice": bounded.loaded.notice,
        "notes": list(bounded.loaded.notes),
        "bounds": [_plain(bounded, place) for place in range(len(bounded.bounds))],
    }
    return json.dumps(plain_values(whole), indent=2, sort_keys=True, allow_nan=False)


def _plain(bounded: Bounded, place: int) -> dict[str, Any]:
    one = bounded.bounds[place]
    plans = bounded.plans[place] if bounded.plans else None
    return {
        "whole_replicas": whole_values(one) if plans else None,
        "plans": plan_values(one, plans) if plans else None,
        "policy": one.policy,
        "requests": one.requests,
        "impossible": one.impossible,
        "overloaded_slots": one.overloaded_slots,
        "unserved_share": one.unserved,
        "gco2e_busy": one.busy_g,
        "gco2e_fleet": one.fleet_g,
        "energy_j_busy": one.busy_j,
        "share_by_region": dict(one.share),
        "slots": [
            {"start_s": start_s, "gco2e_busy": slot_g}
            for start_s, slot_g in zip(one.slot_start_s.tolist(), one.slot_g.tolist(), strict=True)
        ],
    }


def render_bound(bounded: Bounded) -> RenderableType:
    """A table, a row a policy."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("limits of policy", no_wrap=True)
    for title in ("requests", "gCO2e, busy", "energy", "gCO2e, fleet idle on", "impossible",
                  "overloaded slots", "most of it in"):  # fmt: skip
        table.add_column(title, justify="right", no_wrap=True)
    notes: list[Text] = []
    for one in bounded.bounds:
        most = sorted(one.share.items(), key=lambda item: -item[1])[:3]
        table.add_row(
            one.policy, f"{one.requests:,}", grams(one.busy_g), joules(one.busy_j),
            grams(one.fleet_g), f"{one.impossible:,}",
            str(one.overloaded_slots),
            ", ".join(f"{name} {percent(share, 0)}" for name, share in most if share > 0.0),
        )  # fmt: skip
        if one.overloaded_slots:
            notes.append(Text(
                f"{one.policy}: {percent(one.unserved)} of the replica time that was wanted does "
                "not fit; grams are of what fits", style="yellow",
            ))  # fmt: skip
    name = bounded.loaded.simulation.name
    head = f"{name}: a lower bound with perfect knowledge (estimated; docs/bound.md)"
    legend = (
        "busy: replicas while they work, compare with attributional gCO2e; fleet: idle replicas "
        "kept on, compare with consequential gCO2e"
    )
    lines = [Text(f"note: {note}", style="dim") for note in bounded.loaded.notes]
    if bounded.loaded.notice:
        lines.append(Text(bounded.loaded.notice.strip(), style="dim"))
    notes += [
        _plan_line(one, plans) for one, plans in zip(bounded.bounds, bounded.plans, strict=False)
    ]
    return Group(Text(head, style="bold"), table, *notes, Text(legend, style="dim"), *lines)


def _plan_line(one: Bound, plans: Plans) -> Text:
    """What is above the bound: the part that is proved, and plans, which are no bound."""
    values, whole = plan_values(one, plans), whole_values(one)
    least_g = one.fleet_g if math.isfinite(one.fleet_g) else one.busy_g
    told = ", ".join(
        f"{kind} {signed_percent(regret(values[kind]['gco2e_consequential'], least_g))}"
        for kind in KINDS
    )
    return Text(
        f"{one.policy}: whole replicas where that can be proved "
        f"{signed_percent(regret(whole['gco2e_consequential'], least_g))} of the fleet; plans, "
        f"which are no bound: {told} (estimated, {plans.moments:,} moments)"
    )

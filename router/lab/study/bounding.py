"""``carbon-router bound``: the least grams that any router could have emitted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.lab.sim.bound.run import Bound, bound
from router.lab.sim.fields import Period
from router.lab.sim.scenario.loading import Loaded, load
from router.lab.study.execute import TaskProgress
from router.lab.study.input_files import read_inputs
from router.lab.study.report.units import grams, joules, percent
from router.units import HOUR_S
from router.unknown_figures import plain_values

_LEAST_SLOT_S = 1.0


class Bounded(NamedTuple):
    """A scenario's bounds, one a policy that was asked for."""

    loaded: Loaded
    digest: str
    bounds: tuple[Bound, ...]


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
    progress: TaskProgress = TaskProgress(),  # noqa: B008
) -> Bounded:
    """The bound of a scenario file under each policy's latency limits.

    Raises ConfigError, TraceError.
    """
    loaded = load(file, policies, seed=seed)
    asked = loaded.simulation.policies
    shares = [0.0] * len(asked)
    progress.begin([policy.name for policy in asked])
    found = []
    for place, policy in enumerate(asked):

        def show(share: float, place: int = place) -> None:
            shares[place] = share
            progress.show(shares)

        found.append(bound(loaded.simulation, policy, slot_s, progress=show))
    return Bounded(loaded, read_inputs(file).digest, tuple(found))


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
        "bounds": [_plain(one) for one in bounded.bounds],
    }
    return json.dumps(plain_values(whole), indent=2, sort_keys=True, allow_nan=False)


def _plain(one: Bound) -> dict[str, Any]:
    return {
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
    return Group(Text(head, style="bold"), table, *notes, Text(legend, style="dim"), *lines)

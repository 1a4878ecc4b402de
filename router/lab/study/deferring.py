"""``carbon-router defer``: what it is worth to let requests wait that may.

The scenario's policy runs with every request at once, then with those that have a deadline released
by the product's own scheduler: once with the scenario's signal, once as if every hour were that of
the day before, once knowing the grids in advance. Nothing else differs: what is saved is *when*.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.core.deferral.planning import DeferralRules
from router.errors import ConfigError
from router.lab.sim.deferral.run import (
    ANOTHER_SEED,
    DeferrableTraffic,
    Releases,
    sent_at,
    simulate_sent,
    usual_of,
)
from router.lab.sim.scenario.loading import Loaded, load
from router.lab.sim.simulation import Simulation
from router.lab.study.execute import TaskProgress
from router.lab.study.report.units import grams, percent
from router.model import Policy
from router.units import HOUR_S
from router.unknown_figures import plain_values

Floats = NDArray[np.float64]

GRAMS: Final = ("fleet_g", "requests_g", "deferred_g", "deferred_marginal_g")
AT_ONCE: Final = "at once"
# Who picks the hour, and what it then knows of the grids; None: the scenario's own signal.
SCHEDULES: Final[Mapping[str, str | None]] = {
    "scheduler": None, "the day before": "day_before", "knows all hours": "perfect",
}  # fmt: skip


class WhenRun(NamedTuple):
    """One policy with one schedule. Grams as `PolicyResult` has them.

    ``deferred_g``: attributional, of the requests that may wait; ``deferred_marginal_g``: what they
    added. ``in_time``: share of these that ended by their deadline. ``slo``: of the others, share
    within their budgets, NaN of none. ``mean_wait_h``: from arrival to release. ``sent``: attempts
    of a request that may wait, mean.
    """

    schedule: str
    fleet_g: float
    requests_g: float
    deferred_g: float
    deferred_marginal_g: float
    in_time: float
    slo: float
    mean_wait_h: float
    sent: float


@dataclass(frozen=True, slots=True, eq=False)
class Deferring:
    """``runs``: at once first. ``share``: of requests, those that may wait."""

    loaded: Loaded
    policy: Policy
    requests: int
    share: float
    runs: tuple[WhenRun, ...]

    def saving(self, run: WhenRun, figure: str) -> float:
        """Share of the grams of running at once that it saves; NaN where there were none."""
        whole = float(getattr(self.runs[0], figure))
        return 1.0 - float(getattr(run, figure)) / whole if whole > 0.0 else math.nan

    def reached(self, run: WhenRun, figure: str) -> float:
        """Of what knowing all hours saves, the share that it saves."""
        most = self.saving(self.runs[-1], figure)
        return self.saving(run, figure) / most if most > 0.0 else math.nan


def defer_scenario(
    file: Path,
    policy: str | None = None,
    *,
    seed: int | None = None,
    rules: DeferralRules = DeferralRules(),  # noqa: B008
    progress: TaskProgress = TaskProgress(),  # noqa: B008
) -> Deferring:
    """Raises what `load` raises; ConfigError for a scenario in which nothing may wait."""
    policies = (policy,) if policy else ()
    loaded = load(file, policies, seed)
    simulation = loaded.simulation
    names = ("usual load", AT_ONCE, *SCHEDULES)
    progress.begin(list(names))
    shares = [0.0] * len(names)

    def done(place: int) -> None:
        shares[place] = 1.0
        progress.show(shares)

    work = DeferrableTraffic.of(simulation)
    if not work.may_wait.any():
        fix = "nothing may wait: give a class a `deadline`, or requests of a file a `deadline_s`"
        raise ConfigError(str(file), [("workload", fix)])
    chosen = simulation.policies[0]
    others = load(file, policies, simulation.seed + ANOTHER_SEED).simulation
    usual = usual_of(replace(others, signal=simulation.signal), chosen)
    done(0)
    runs = [_run(simulation, chosen, work, AT_ONCE, Releases.at_once(work))]
    done(1)
    for place, (schedule, kind) in enumerate(SCHEDULES.items(), 2):
        signal = simulation.signal
        if kind is not None:
            signal = load(file, policies, seed, kind).simulation.signal
        released = sent_at(simulation, work, usual, signal.view, rules)
        runs.append(_run(simulation, chosen, work, schedule, released))
        done(place)
    share = float(work.may_wait.mean())
    return Deferring(loaded.deferring(), chosen, len(work.traffic), share, tuple(runs))


def _run(
    simulation: Simulation,
    policy: Policy,
    work: DeferrableTraffic,
    schedule: str,
    released: Releases,
) -> WhenRun:
    sent = simulate_sent(simulation, policy, work, released)
    result, rows = sent.result, sent.rows
    waits = work.may_wait[sent.owner]
    urgent = rows.seen & ~waits
    wait_s = (released.at_s - work.traffic.arrival_s)[work.may_wait]
    count = float(work.may_wait.sum())
    return WhenRun(
        schedule,
        result.fleet.total_g,
        result.gco2e,
        float(np.nansum(rows.figure("gco2e_attributional")[waits])),
        float(np.nansum(rows.figure("gco2e_marginal")[waits])),
        float(sent.in_time.sum()) / count,
        float((rows.code("budget_met")[urgent] == 1).mean()) if urgent.any() else math.nan,
        float(wait_s.mean()) / HOUR_S,
        float(waits.sum()) / count,
    )


def deferring_json(found: Deferring) -> str:
    """All figures; those that are unknown are null."""
    simulation = found.loaded.simulation
    whole = {
        "scenario": simulation.name,
        "seed": simulation.seed,
        "policy": found.policy.name,
        "kind": "estimated",
        "requests": found.requests,
        "may_wait_share": found.share,
        "notice": found.loaded.notice,
        "notes": list(found.loaded.notes),
        "schedules": [
            run._asdict()
            | {f"when_{name}": found.saving(run, name) for name in GRAMS}
            | {f"reached_{name}": found.reached(run, name) for name in GRAMS}
            for run in found.runs
        ],
    }
    return json.dumps(plain_values(whole), indent=2, sort_keys=True, allow_nan=False)


def render_deferring(found: Deferring) -> RenderableType:
    """A table, a row a schedule."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("who picks the hour", no_wrap=True)
    for title in ("gCO2e of the fleet", "when", "of what waited", "when", "of the most", "wait",
                  "in time", "others' budgets kept"):  # fmt: skip
        table.add_column(title, justify="right", no_wrap=True)
    for run in found.runs:
        table.add_row(
            run.schedule, grams(run.fleet_g), percent(found.saving(run, "fleet_g"), 2),
            grams(run.deferred_g), percent(found.saving(run, "deferred_g")),
            percent(found.reached(run, "deferred_g"), 0), f"{run.mean_wait_h:.1f} h",
            percent(run.in_time, 2), percent(run.slo, 2),
        )  # fmt: skip
    name = found.loaded.simulation.name
    head = (
        f"{name}, {found.policy.name}: {found.requests:,} requests, of which "
        f"{percent(found.share)} may wait (estimated; docs/deferral.md)"
    )
    legend = (
        "when: saved against running at once; of the fleet (consequential), and of the requests "
        "that may wait (attributional)\nof the most: of what `knows all hours` saved of them; "
        "it prices hours, not which replicas then idle or wake, so others may come to more"
    )
    lines = [Text(f"note: {note}", style="dim") for note in found.loaded.notes]
    if found.loaded.notice:
        lines.append(Text(found.loaded.notice.strip(), style="dim"))
    return Group(Text(head, style="bold"), table, Text(legend, style="dim"), *lines)

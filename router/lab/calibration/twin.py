"""The compiled simulation of the very requests that were played live, on a clock at wall speed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router.carbon.tables.table import TraceTable
from router.lab.calibration.figures import Answers
from router.lab.calibration.live_sample import LiveSample
from router.lab.calibration.signal_table import AXIS_START, TableSignal, longer, on_the_axis
from router.lab.replay.timed import Period
from router.lab.sim.engine.run import simulate
from router.lab.sim.result import Columns, FleetAccount
from router.lab.sim.simulation import Gateways, Simulation
from router.lab.sim.traffic.columns import Names, Traffic
from router.model import Fleet, Policy


@dataclass(slots=True)
class _Listed:
    """Requests that are at hand; a Workload."""

    names: Names
    traffic: Traffic

    def chunks(self) -> Iterable[Traffic]:
        """All of them at once."""
        return [self.traffic] if len(self.traffic) else []


def twin_of(
    simulation: Simulation, fleet: Fleet, chosen: LiveSample, period: Period, known: TraceTable
) -> Simulation:
    """What ran live, as a simulation. ``fleet``: as the gateway had it; ``period``: as it was."""
    return replace(
        simulation,
        fleet=fleet,
        policies=(),
        start=AXIS_START,
        duration_s=period.seconds,
        workload=_Listed(simulation.workload.names, chosen.traffic),
        actual=on_the_axis(longer(simulation.actual), period),
        signal=TableSignal(known, simulation.carbon_signal, period),
        gateways=Gateways(1, 0.0),
        outages=(),
        autoscaling=None,
        warm_up_s=0.0,
        path_delay_ms={},
    )


def run(twin: Simulation, policy: Policy, seed: int) -> tuple[Answers, FleetAccount]:
    """One draw of it; ``seed`` decides near-ties only."""
    kept = _Kept()
    result = simulate(replace(twin, seed=seed), policy, kept)
    refused = {**result.refused, **({"failed": result.failed} if result.failed else {})}
    return kept.answers(refused), result.fleet


class _Kept:
    """A sink that keeps what `Answers` needs."""

    def __init__(self) -> None:
        self._parts: list[Columns] = []

    def requests(self, columns: Columns) -> None:
        self._parts.append(columns)

    def replicas(self, columns: Columns) -> None:
        pass

    def answers(self, refused: dict[str, int]) -> Answers:
        answered = self._column("shed_reason") == 0
        arrival_s = self._column("arrival_s")
        return Answers(
            region=self._column("region")[answered].astype(np.int64),
            ttft_ms=1e3 * self._column("ttft_s")[answered],
            e2e_ms=1e3 * (self._column("end_s") - arrival_s)[answered],
            energy_j=self._column("energy_j_attributional")[answered],
            marginal_energy_j=self._column("energy_j_marginal")[answered],
            gco2e=self._column("gco2e_attributional")[answered],
            met=self._column("budget_met")[answered] != 0,
            refused=refused,
        )

    def _column(self, name: str) -> NDArray[np.float64]:
        if not self._parts:
            return np.empty(0)
        return np.concatenate([np.asarray(part[name], np.float64) for part in self._parts])

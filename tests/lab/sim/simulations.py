"""Small simulations for tests: the same requests as columns and as a list for the replay."""

from __future__ import annotations

import math

import numpy as np

from router.carbon.tables.table import TraceTable
from router.config.settings import HealthSettings
from router.lab.replay.replay import CarbonView, Scenario
from router.lab.replay.timed import Period, TimedRequest
from router.lab.sim.grid.signals import Perfect
from router.lab.sim.simulation import Autoscaling, Gateways, Outage, Simulation
from router.lab.sim.traffic.columns import NO_OUTPUT_LIMIT, Names, Traffic
from router.model import (
    Basis,
    Budget,
    Endpoint,
    Factors,
    Fleet,
    Forecast,
    Intensity,
    Kind,
    LengthPrior,
    Policy,
    Profile,
    Provenance,
    Region,
    Request,
    ServedModel,
    Signal,
    TokenProfile,
)

HOUR = 3600.0
START = 1_652_511_600.0
SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
HEALTH = HealthSettings(5.0, 2.0, 5, 10.0, 20, 10.0, 300.0, 0.5, 1.0, 5.0)
ANYWHERE: frozenset[str] = frozenset()


def profile(**changes) -> TokenProfile:
    values = {
        "idle_w": 90.0, "base_w": 477.0, "w_per_token_s": 0.024, "tpot_base_ms": 10.0,
        "tpot_ms_per_sequence": 0.5, "prefill_base_ms": 20.0, "prefill_ms_per_token": 0.1,
        "max_batch": 64, "target_batch": 8, "host_fraction": 0.3,
        "provenance": Provenance.MEASURED, "source": "test",
    }  # fmt: skip
    return TokenProfile(name="m@gpu", **{**values, **changes})


def fleet(
    places: dict[str, int],
    *,
    one: Profile | None = None,
    max_in_flight: int = 4,
    rtt_ms: dict[str, dict[str, float]] | None = None,
    pue: float = 1.2,
) -> Fleet:
    """``places``: region to replicas; grid zones are Z-REGION, jurisdictions like the regions."""
    served = ServedModel("m", "", one or profile(), math.inf)
    return Fleet(
        regions={r: Region(r, f"Z-{r}", pue, "test", frozenset({r})) for r in places},
        endpoints=tuple(
            Endpoint(f"{r}-{i}", r, f"h:{i}", "oip", (served,), max_in_flight, "", "", True)
            for r, count in places.items()
            for i in range(count)
        ),
        priors={"m": LengthPrior(100.0, 60.0, 120.0)},
        rtt_ms=rtt_ms or {"me": dict.fromkeys(places, 0.0)},
        default_origin="me",
        gateway_origin="",
    )


class Listed:
    """A Workload of one chunk."""

    def __init__(self, names: Names, traffic: Traffic, rows: int = 0) -> None:
        self.names = names
        self._traffic = traffic
        self._rows = rows or (7 if len(traffic) < 200 else 5000)

    def chunks(self):
        for first in range(0, len(self._traffic), self._rows):
            stop = first + self._rows
            yield Traffic(*(getattr(self._traffic, n)[first:stop] for n in Traffic.__slots__))


def ask(at_s, n_in=100, n_out=50, origin="me", budget=Budget(), allowed=ANYWHERE) -> TimedRequest:  # noqa: B008
    request = Request(
        "m", origin=origin, input_tokens=float(n_in), budget=budget, residency=allowed
    )
    return TimedRequest(at_s, request, n_out, "test", streamed=True)


def simulation(
    requests: list[TimedRequest],
    the_fleet: Fleet,
    hours: dict[str, list[float]],
    policy: Policy,
    *,
    start: float = START,
    duration_s: float = HOUR,
    outages: tuple[Outage, ...] = (),
    autoscaling: Autoscaling | None = None,
    warm_up_s: float = 0.0,
) -> Simulation:
    """``hours``: g/kWh by grid zone, from the hour that holds ``start`` on."""
    origins = tuple(the_fleet.rtt_ms)
    allowed = (ANYWHERE, *sorted({r.request.residency for r in requests} - {ANYWHERE}, key=sorted))
    limits = [r.request.budget for r in requests]
    n = len(requests)
    traffic = Traffic(
        np.array([r.at_s for r in requests]),
        np.array([origins.index(r.request.origin) for r in requests], np.int32),
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
        np.array([allowed.index(r.request.residency) for r in requests], np.int32),
        np.array([r.request.input_tokens for r in requests], np.int32),
        np.array([r.output_tokens for r in requests], np.int32),
        np.array([b.ttft_ms for b in limits], np.float64),
        np.array([b.tpot_ms for b in limits], np.float64),
        np.array([b.e2e_ms for b in limits], np.float64),
        np.full(n, np.inf),
        np.array([min(r.request.max_output_tokens, NO_OUTPUT_LIMIT) for r in requests], np.int32),
    )
    table = TraceTable(
        "test", tuple(hours), start // HOUR * HOUR, HOUR, np.array(list(hours.values())).T
    )
    return Simulation(
        "test", the_fleet, (policy,), HEALTH, start, duration_s, 0,
        Listed(Names(origins, ("m",), ("",), allowed), traffic), SIGNAL, table, {},
        Perfect(table, SIGNAL), Gateways(1, 0.0), outages, autoscaling, 0.0, warm_up_s,
    )  # fmt: skip


def replayable(of: Simulation, requests: list[TimedRequest]) -> Scenario:
    """The same as the replay wants it: a wall that runs at the speed of the grid."""
    table = of.actual

    def forecast(column: int) -> Forecast:
        slots = tuple(
            Intensity(v, v, v, SIGNAL, Kind.MEASURED, "test", of.start, math.inf)
            for v in table.g_per_kwh[:, column].tolist()
        )
        return Forecast(table.grid_zones[column], table.start, HOUR, slots)

    actual = {zone: forecast(column) for column, zone in enumerate(table.grid_zones)}
    first = HOUR - of.start % HOUR
    views = [CarbonView(at, actual) for at in (0.0, first) if at < of.duration_s]
    period = Period(of.duration_s, of.start, 1.0)
    return Scenario(of.fleet, requests, period, views, {}, actual, HEALTH)

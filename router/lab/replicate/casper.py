"""Six regions: CASPER (Souza et al., IGSC 2023), by its own programme and by this kernel.

Every hour, requests of six AWS regions go to servers in those regions; a server takes ten of them,
a region has up to 100 servers. CASPER decides both at once by a mixed-integer programme: its carbon
scheduler minimises grams within a latency limit, its latency scheduler the round trips; replay
leaves everything at home. The weights and limits are those of its repository.
"""

from __future__ import annotations

import math
import random
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.errors import TraceError
from router.extras import need
from router.lab.replicate.inputs import COMMAND, NOTICE, Floats, Literature
from router.lab.replicate.kernel_sites import KernelSites, shipped_policy
from router.lab.replicate.paper import PaperCell, PaperRow, PaperTable, Replication, paper_row
from router.units import HOUR_S

# Grid zones of the six regions; the study has a series of its own for us-east-2, which is that of
# us-east-1 an hour late.
ZONES: Final = {
    "ap-southeast-2": "AU-NSW",
    "eu-central-1": "DE",
    "eu-west-3": "FR",
    "us-east-1": "US-MIDA-PJM",
    "us-east-2": "US-MIDA-PJM",
    "us-west-1": "US-CAL-CISO",
}
REQUESTS_A_SERVER: Final = 10
SERVERS_A_REGION: Final = 100
# Of grams, and of the round trip, against that of servers.
_CARBON_WEIGHT: Final = 0.9
_LATENCY_WEIGHT: Final = 0.5
LIMITS_MS: Final = (50.0, 100.0, 150.0, 200.0, 250.0, 500.0)
START: Final = "2022-08-13T00:00Z"
HOURS: Final = 168
# The study takes its demand's local stamps for UTC: its hour is that of four hours before.
LATE_BY_H: Final = 4
_PUBLISHED_SAVING_PCT: Final = 70
_COLUMNS: Final = ("g/kWh", "below replay, %", "mean round trip, ms", "mean servers")
SEED: Final = 1


class CasperHours(NamedTuple):
    """``requests`` and ``g_per_kwh`` (hours, regions); ``rtt_ms`` (regions, regions): from, to;
    ``first_h``: hours since 1970.
    """

    regions: tuple[str, ...]
    requests: NDArray[np.int64]
    g_per_kwh: Floats
    rtt_ms: Floats
    first_h: int


class CasperPlan(NamedTuple):
    """What a scheduler did: ``moved`` (hours, from, to) requests, ``servers`` (hours, regions)."""

    moved: Floats
    servers: Floats


def scaled_demand(requests_an_hour: Floats) -> NDArray[np.int64]:
    """The study's demand: such that the largest hour of a region fills the region."""
    most = REQUESTS_A_SERVER * SERVERS_A_REGION
    return np.asarray(requests_an_hour * most // requests_an_hour.max(), np.int64)


def read_hours(
    literature: Literature, late_by_h: int = LATE_BY_H, hours: int = HOURS
) -> CasperHours:
    """The study's week. ``late_by_h``: demand of so many hours before meets an hour's intensity."""
    demand, rtt = literature.wiki_demand(), literature.aws_rtt()
    regions = rtt.columns
    if set(regions) != set(ZONES):
        raise TraceError(f"{rtt.file}: needs the regions {', '.join(ZONES)}")
    scaled = scaled_demand(demand.values[:, list(map(demand.column, regions))])
    first = demand.row(START) - late_by_h
    table = literature.intensities
    first_h = int(np.datetime64(START.removesuffix("Z"), "h").astype(np.int64))
    row = first_h - int(table.start // HOUR_S)
    grids = literature.g_per_kwh(tuple(ZONES[name] for name in regions))
    if not (0 <= first <= len(scaled) - hours and 0 <= row <= len(grids) - hours):
        raise TraceError(f"{demand.file} or {table.name}: lacks hours of the week from {START}")
    return CasperHours(
        regions,
        scaled[first : first + hours],
        grids[row : row + hours],
        rtt.values[list(map(rtt.row, regions))],
        first_h,
    )


def schedule(
    cost: Floats, requests: NDArray[np.int64], server_cost: float
) -> tuple[Floats, Floats]:
    """One hour of CASPER's programme, by HiGHS: requests moved (from, to), servers (regions,).

    ``cost`` (from, to): of one request, inf where it may not go. Raises ConfigError without scipy,
    ArithmeticError where nothing serves all requests.
    """
    optimize, sparse = _scipy()
    regions = len(requests)
    origin, site = np.nonzero(np.isfinite(cost))
    pairs, flows = np.arange(len(origin)), len(origin)
    ones = np.ones(flows)
    shape = (regions, flows + regions)
    all_go = sparse.csr_array((ones, (origin, pairs)), shape=shape)
    held = sparse.csr_array(
        (
            np.append(ones, np.full(regions, -float(REQUESTS_A_SERVER))),
            (np.append(site, np.arange(regions)), np.append(pairs, flows + np.arange(regions))),
        ),
        shape=shape,
    )
    found = optimize.milp(
        np.append(cost[origin, site], np.full(regions, server_cost)),
        constraints=[
            optimize.LinearConstraint(all_go, requests, requests),
            optimize.LinearConstraint(held, -np.inf, 0.0),
        ],
        # Where servers are whole, so is what moves: the rest is a transport problem.
        integrality=np.append(np.zeros(flows), np.ones(regions)),
        bounds=optimize.Bounds(
            0.0, np.append(np.full(flows, np.inf), [SERVERS_A_REGION] * regions)
        ),
    )
    if found.x is None:
        raise ArithmeticError(f"CASPER's programme has no solution: {found.message}")
    moved = np.zeros(cost.shape)
    moved[origin, site] = found.x[:flows]
    return moved, np.asarray(found.x[flows:])


def plan_carbon(hours: CasperHours, limit_ms: float) -> CasperPlan:
    """CASPER's carbon scheduler, hour by hour."""
    allowed = hours.rtt_ms <= limit_ms
    most_servers = SERVERS_A_REGION * len(hours.regions)
    plans = []
    for requests, g_per_kwh in zip(hours.requests, hours.g_per_kwh, strict=True):
        scale = _CARBON_WEIGHT / (g_per_kwh.max() * requests.sum())
        cost = np.where(allowed, scale * g_per_kwh[None, :], np.inf)
        plans.append(schedule(cost, requests, (1.0 - _CARBON_WEIGHT) / most_servers))
    return _joined(plans)


def plan_latency(hours: CasperHours) -> CasperPlan:
    """CASPER's latency scheduler."""
    most_servers = SERVERS_A_REGION * len(hours.regions)
    plans = []
    for requests in hours.requests:
        scale = _LATENCY_WEIGHT / float(requests @ hours.rtt_ms.max(axis=1))
        server_cost = (1.0 - _LATENCY_WEIGHT) / most_servers
        plans.append(schedule(scale * hours.rtt_ms, requests, server_cost))
    return _joined(plans)


def plan_home(hours: CasperHours) -> CasperPlan:
    """Replay: every request where it comes from."""
    moved = np.stack([np.diag(row) for row in hours.requests.astype(np.float64)])
    return CasperPlan(moved, np.ceil(hours.requests / REQUESTS_A_SERVER))


def plan_kernel(hours: CasperHours, limit_ms: float, seed: int = SEED) -> CasperPlan:
    """The gateway's carbon-first: requests come one by one in any order and know nothing of those
    after them; the limit is each one's own budget, a region holds what its servers take.
    """
    rng = random.Random(seed)
    policy = shipped_policy("carbon-first")
    room = REQUESTS_A_SERVER * SERVERS_A_REGION
    sites = KernelSites(hours.regions, hours.regions, hours.rtt_ms, policy, room)
    moved = np.zeros((len(hours.requests), len(hours.regions), len(hours.regions)))
    for hour, (requests, g_per_kwh) in enumerate(zip(hours.requests, hours.g_per_kwh, strict=True)):
        sites.start_hour(hours.first_h + hour, g_per_kwh)
        arrivals = np.repeat(np.arange(len(requests)), requests).tolist()
        rng.shuffle(arrivals)
        for origin in arrivals:
            site = sites.choose(hours.regions[origin], rng, limit_ms, hold=True)
            moved[hour, origin, site] += 1.0
    return CasperPlan(moved, np.ceil(moved.sum(axis=1) / REQUESTS_A_SERVER))


def mean_g_per_kwh(hours: CasperHours, plan: CasperPlan) -> float:
    """Mean intensity of all requests, g/kWh: their grams if each takes the same energy."""
    by_site = plan.moved.sum(axis=1)
    return float((by_site * hours.g_per_kwh).sum() / by_site.sum())


def mean_rtt_ms(hours: CasperHours, plan: CasperPlan) -> float:
    """Mean round trip of all requests, ms."""
    return float((plan.moved * hours.rtt_ms).sum() / plan.moved.sum())


def study(literature: Literature) -> Replication:
    """CASPER's schedulers and the kernel, by latency limit."""
    hours = read_hours(literature)
    return Replication(
        "casper",
        "CASPER, IGSC 2023: six regions and a latency limit",
        (_schedulers(hours), _on_time(read_hours(literature, late_by_h=0))),
        (NOTICE,),
    )


def _schedulers(hours: CasperHours) -> PaperTable:
    home = plan_home(hours)
    rows = [
        _row("replay: at home", hours, home),
        _row("CASPER's latency scheduler", hours, plan_latency(hours)),
    ]
    over_pct = []
    for limit_ms in LIMITS_MS:
        casper, kernel = plan_carbon(hours, limit_ms), plan_kernel(hours, limit_ms)
        rows.append(_row(f"{limit_ms:g} ms: CASPER's carbon scheduler", hours, casper))
        rows.append(_row(f"{limit_ms:g} ms: carbon-first of this kernel", hours, kernel))
        casper_g, kernel_g = mean_g_per_kwh(hours, casper), mean_g_per_kwh(hours, kernel)
        over_pct.append(100.0 * (kernel_g / casper_g - 1.0))
    return PaperTable(
        f"A week from {START}, {int(hours.requests.sum())} requests",
        "g/kWh, %, ms, servers",
        "",
        "limit and scheduler",
        _COLUMNS,
        tuple(rows),
        (
            f"published: up to {_PUBLISHED_SAVING_PCT} % less carbon without loss of latency, "
            "neither with a table nor with the setting; the repository's own limit is 500 ms",
            "this kernel decides request by request; its grams above those of CASPER's programme: "
            + ", ".join(f"{PaperCell(math.nan, over, 1).text(over)} %" for over in over_pct),
            "intensities are those of the other studies, not CASPER's file, which fills gaps with "
            "means",
        ),
    )


def _on_time(hours: CasperHours) -> PaperTable:
    return PaperTable(
        "The same with the demand at its true hour",
        "g/kWh, %, ms, servers",
        "",
        "limit and scheduler",
        _COLUMNS,
        (
            _row("replay: at home", hours, plan_home(hours)),
            *(
                _row(f"{limit:g} ms: CASPER's carbon scheduler", hours, plan_carbon(hours, limit))
                for limit in LIMITS_MS
            ),
        ),
        (f"CASPER takes local stamps for UTC: its demand is {LATE_BY_H} hours late",),
    )


def _row(label: str, hours: CasperHours, plan: CasperPlan) -> PaperRow:
    g_per_kwh, home_g = mean_g_per_kwh(hours, plan), mean_g_per_kwh(hours, plan_home(hours))
    ours = (
        g_per_kwh,
        100.0 * (1.0 - g_per_kwh / home_g),
        mean_rtt_ms(hours, plan),
        float(plan.servers.sum(axis=1).mean()),
    )
    return paper_row(label, [math.nan] * len(ours), ours, 1)


def _joined(plans: list[tuple[Floats, Floats]]) -> CasperPlan:
    return CasperPlan(np.stack([moved for moved, _ in plans]), np.stack([s for _, s in plans]))


def _scipy() -> tuple[Any, Any]:
    with need("sim", "CASPER's programme", file=COMMAND):
        from scipy import optimize, sparse
    return optimize, sparse

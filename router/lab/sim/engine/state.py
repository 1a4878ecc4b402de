"""The arrays that the compiled simulation works on, and what their columns mean.

Built once a run from a `Simulation`; the compiled loop changes them in place. Times are seconds
since the start of the scenario. A *slot* holds one request from its decision to its answer; a
*replica* is one model on one endpoint, in the order of `Plant.replicas`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.lengths import LENGTHS
from router.lab.sim.result import REASONS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Slots, float columns.
ARRIVAL = 0
HALF_RTT = 1  # one way, the path's delay included
N_IN = 2
N_OUT = 3
TTFT_BUDGET = 4
TPOT_BUDGET = 5
E2E_BUDGET = 6
PREFILL_MS = 7
BATCH_AT_START = 8
CAP = 9
STARTED = 10
FIRST = 11
ENDED = 12
SHARE = 13  # its start values while it runs, then the joules that they come to
AWAKE = 14
NETWORK_J = 15
SLOT_FLOATS = 16

# Slots, integer columns.
REQUEST = 0
REPLICA = 1
MODEL = 2
ORIGIN = 3
TENANT = 4
GATEWAY = 5
NEXT = 6
PHASE = 7
SLOT_INTS = 8

# Phases of a slot. LOST: its replica went down, and no gateway knows yet.
FREE = 0
OUTBOUND = 1
PLACED = 2
INBOUND = 3
LOST = 4

# Replicas, float columns: what moves, then the physics of `router.lab.replay.replica.Physics`.
NOW = 0
CLOCK = 1
SHARE_S = 2
AWAKE_S = 3
BUSY_S = 4
TOKENS = 5
IDLE_S = 6
OFF_S = 7
WAKE_S = 8
BATCH_S = 9
IDLE_SINCE = 10
WAKE_END = 11
TPOT_BASE = 12
TPOT_SLOPE = 13
PREFILL_BASE = 14
PREFILL_TOKEN = 15
IDLE_W = 16
BASE_W = 17
J_PER_TOKEN = 18
HOST = 19
PUE = 20
PATH_S = 21  # what a round trip takes beyond the RTT that routers know
REPLICA_FLOATS = 24

# Replicas, integer columns.
RUNNING = 0
DECODING = 1
QUEUED = 2
HEAD = 3
TAIL = 4
PREFILLS = 5
DEADLINES = 6
MAX_BATCH = 7
HEAP = 8
ONE_UNIT = 9
STATE = 10
ENDPOINT = 11
REGION = 12
ZONE = 13
NOTICED = 14
REPLICA_INTS = 16

# States of a replica; while UP it is idle, busy or (past its release) off.
UP = 0
WAKING = 1
DOWN = 2

# Learned lengths, columns after those of `router.core.lengths`; of (gateway, model, tenant + 1),
# 0 for what unknown tenants start from. QUANTILE: NaN until it is worked out. MOST: tokens that an
# answer counts for at most. TAUGHT: lessons to those unknown.
QUANTILE = LENGTHS
KNOWN = LENGTHS + 1
MOST = LENGTHS + 2
TAUGHT = LENGTHS + 3
LENGTH_COLUMNS = LENGTHS + 4

# Lessons, columns.
L_ENDPOINT = 0
L_TTFT = 1
L_PREFILL = 2
L_TPOT = 3
L_TPOT_EXPECTED = 4
L_MODEL = 5
L_TENANT = 6
L_OUT = 7
LESSON = 8

# Registers: counters of the compiled loop.
FREE_HEAD = 0
WIRE = 1
DRAWS = 2
CURSOR = 3
ROWS = 4
NEXT_REQUEST = 5
IN_FLIGHT = 6
REGISTERS = 8

# Scalars of one run; float registers.
START = 0
HOUR_ENDS_AT = 1
Z = 2
RELEASE_AFTER = 3
WAKE_FOR = 4
NETWORK_J_PER_TOKEN = 5
WARM_UP = 6
TICK = 7
STALENESS = 8
ACTUAL_START = 9
ACTUAL_STEP = 10
HOUR_ZERO = 11
SCALARS = 16

# Why a request has no answer, as places in `REASONS`; 0 for one that has.
SERVED = 0
SHED, BUDGET_IMPOSSIBLE, NO_ENDPOINT, POLICY_EXCLUDES, RESIDENCY_EXCLUDED, FAULT = range(
    1, len(REASONS)
)

# Sums, columns, of a region.
SUM_COMPLETED = 0
SUM_J = 1
SUM_MARGINAL_J = 2
SUM_G = 3
SUM_MARGINAL_G = 4
SUM_MET = 5
SUMS = 6

# Rows of requests, float and integer columns.
ROW_FLOATS = (
    "arrival_s", "start_s", "ttft_s", "end_s", "energy_j_attributional", "energy_j_marginal",
    "gco2e_attributional", "gco2e_marginal", "g_per_kwh",
)  # fmt: skip
ROW_INTS = (
    "request", "origin", "model", "region", "endpoint", "input_tokens", "output_tokens",
    "budget_met", "shed_reason",
)  # fmt: skip


class Plant(NamedTuple):
    """Replicas and what they are made of. ``due`` and ``winners`` (2 * leaves,): a tournament
    of next events; node 1 holds the first of all, replica r is leaf ``leaves + r``. Heaps of
    ``max_batch`` entries, and a margin of inf, lie at column HEAP of a replica.
    """

    replicas: Floats
    states: Ints
    due: Floats
    winners: Ints
    prefill_keys: Floats
    prefill_slots: Ints
    deadline_keys: Floats
    deadline_slots: Ints


class Flights(NamedTuple):
    """Requests under way: slots, and the heap of those on the wire, either way."""

    floats: Floats
    ints: Ints
    wire_keys: Floats
    wire_slots: Ints


class Columns(NamedTuple):
    """What decisions read, by model: the kernel's columns, padded to the widest model.

    ``tables`` (models, rows, n), ``row_replicas`` (models, n), ``sizes`` (models, 2): candidates
    and regions. ``rungs`` (1 + rungs, PARAMS): the policy, as it says and on each rung of its
    ladder. ``masks``: residency bits by code. ``scratch``: the kernel's own.
    """

    tables: Floats
    labels: Ints
    starts: Ints
    row_replicas: Ints
    sizes: Ints
    rungs: Floats
    origin_rows: Ints
    masks: Ints
    scratch: Floats
    terms: Floats
    reasons: Ints


class Gates(NamedTuple):
    """What each gateway knows. ``live`` (gateways, models, rows, n): the boards.

    ``seats`` (gateways, endpoints, 6): own requests, turns, capped requests, least cap, whether
    something was learned that is not published yet, and polls since its last own request.
    ``others`` (gateways, endpoints): foreign requests at the last poll. ``total`` (endpoints, 2):
    requests in flight to each endpoint, and the most there ever were. ``caps`` (gateways,
    endpoints, caps): how many requests have each cap. ``errors`` (gateways, endpoints, columns):
    the wait's, of `router.core.latency`, then mean and variance of the log ratio of TPOT.
    ``cells``: where an endpoint's candidates lie, (model, row) from ``cell_starts``.
    """

    live: Floats
    seats: Ints
    others: Floats
    total: Ints
    caps: NDArray[np.int32]
    errors: Floats
    lengths: Floats
    lessons: Floats
    lesson_counts: Ints
    ticks: Floats
    polls: Floats
    cell_starts: Ints
    cells: Ints
    endpoint_starts: Ints
    endpoint_replicas: Ints


class Tally(NamedTuple):
    """What is counted. ``offered`` (1,): requests; ``relaxed`` (rungs,): those decided with each
    rung of the ladder. ``latencies`` (2, BINS): TTFT and end-to-end. ``hours`` (hours, regions):
    requests by hour of arrival. ``moves`` (origins, models, regions): since the last update.
    """

    offered: Ints
    relaxed: Ints
    reasons: Ints
    sums: Floats
    latencies: Ints
    hours: Ints
    moves: Ints
    actual: Floats
    row_floats: Floats
    row_ints: Ints
    cell: Floats
    cell_bits: Ints


class Arrivals(NamedTuple):
    """One chunk of `router.lab.sim.traffic.columns.Traffic`, as the compiled loop reads it."""

    arrival_s: Floats
    origin: NDArray[np.int32]
    model: NDArray[np.int32]
    tenant: NDArray[np.int32]
    residency: NDArray[np.int32]
    input_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    ttft_budget_ms: Floats
    tpot_budget_ms: Floats
    e2e_budget_ms: Floats
    max_output_tokens: NDArray[np.int32]


class World(NamedTuple):
    """Everything that the compiled loop reads and writes."""

    plant: Plant
    flights: Flights
    columns: Columns
    gates: Gates
    tally: Tally
    registers: Ints
    scalars: Floats

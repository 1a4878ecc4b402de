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
from router.core.prefixes import Caches
from router.lab.sim.result import REASONS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Slots, float columns. HALF_RTT: one way, the path's delay included. READ: tokens of the prompt
# that are cached; PIECE, READING_S and READ_ALONE: seconds of its pieces, of them with its share of
# iterations that nobody decoded in, and of those what nobody else would have needed. SHARE, AWAKE,
# BESIDE: start values while it decodes, then SHARE and AWAKE the joules that they come to, and
# READING_S those of its prompt. PACE_MS, PACE2_MS2, CONTEXT, PROMPT_MS, CAP, PACED_MS: what it adds
# to its replica, as `router.model.Burden` has it. *_AT_START: of the whole replica as it was sent,
# itself included. CACHED: tokens of the prompt that its replica spared it; SENT_CACHED: those that
# its gateway knew of, were servers as they say.
(
    ARRIVAL, HALF_RTT, N_IN, N_OUT, TTFT_BUDGET, TPOT_BUDGET, E2E_BUDGET, PREFILL_MS, QUEUE_MS,
    BATCH_AT_START, PACE_AT_START, CACHED_AT_START, PACE_MS, PACE2_MS2, CONTEXT, PROMPT_MS, CAP,
    PACED_MS, STARTED, FIRST, ENDED, READ, PIECE, READING_S, READ_ALONE, SHARE, AWAKE, BESIDE,
    NETWORK_J, CACHED, SENT_CACHED, SLOT_FLOATS,
) = range(32)  # fmt: skip

# Slots, integer columns. PLACE: number of the replica's slot that it holds. BLOCKS: of its chain;
# BELIEF: where its gateway keeps what it knows of the prompts there, as `Gates.kept` has it.
(
    REQUEST, REPLICA, MODEL, ORIGIN, TENANT, GATEWAY, NEXT, PHASE, PLACE, BLOCKS, BELIEF, SLOT_INTS,
) = range(12)  # fmt: skip

# Phases of a slot. LOST: its replica went down, and no gateway knows yet.
FREE, OUTBOUND, PLACED, INBOUND, LOST = range(5)

# Replicas, float columns: what moves, then the physics of `router.lab.replay.physics.Physics`.
# ITERATION_S: of the running iteration, or of any without prompts; DECODE_S: what of it does not
# read prompts. BESIDE_TICKS: iterations that sequences had in company. PATH_S: what a round trip
# takes beyond the RTT that routers know.
(
    NOW, CLOCK, ITERATION_S, DECODE_S, ITERATION_ENDS, CACHED_THERE, SHARE_S, AWAKE_S, BESIDE_TICKS,
    BUSY_S, PROMPT_S, TOKENS, IDLE_S, OFF_S, WAKE_S, BATCH_S, IDLE_SINCE, WAKE_END, TPOT_BASE,
    TPOT_SLOPE, TPOT_CACHED, PREFILL_BASE, PREFILL_PIECE, PREFILL_TOKEN, PREFILL_TOKEN2,
    MAX_TOKENS, IDLE_W, BASE_W, PREFILL_W, J_PER_TOKEN, PUE, PATH_S,
    PREFIX_BLOCK, ASLEEP_S,
) = range(34)  # fmt: skip
REPLICA_FLOATS = 34

# Replicas, integer columns. READING: prompts in a slot that are not read; DONE: those that are
# with the running iteration; COMES: what its next event is.
(
    RUNNING, DECODING, QUEUED, HEAD, TAIL, READING, DONE, DEADLINES, MAX_BATCH, HEAP, ONE_UNIT,
    BY_SLOT, FREE_PLACE, STATE, COMES, ENDPOINT, REGION, ZONE, NOTICED,
) = range(19)  # fmt: skip
REPLICA_INTS = 20

# States of a replica; while UP it is idle, busy or (past its release for idling) off. ASLEEP: it
# was released by hints.
UP, WAKING, DOWN, ASLEEP = range(4)

# What a replica's next event is: nothing, it is awake, an iteration with prompts ends or begins, a
# sequence has all its tokens.
NOTHING, WAKES, ENDS, BEGINS, COMPLETES = range(5)

# Learned lengths, columns after those of `router.core.lengths`; of (gateway, model, tenant + 1),
# 0 for what unknown tenants start from. QUANTILE: NaN until it is worked out. MOST: tokens that an
# answer counts for at most. TAUGHT: lessons to those unknown.
QUANTILE, KNOWN, MOST, TAUGHT, LENGTH_COLUMNS = range(LENGTHS, LENGTHS + 5)

# Lessons, columns.
(
    L_ENDPOINT, L_TTFT, L_PREFILL, L_QUEUE, L_TPOT, L_TPOT_EXPECTED, L_MODEL, L_TENANT, L_OUT,
    L_BELIEF, L_FOUND, LESSON,
) = range(12)  # fmt: skip

# Registers: counters of the compiled loop.
FREE_HEAD, WIRE, DRAWS, CURSOR, ROWS, NEXT_REQUEST, IN_FLIGHT = range(7)
REGISTERS = 8

# Scalars of one run; float registers.
(
    START, HOUR_ENDS_AT, Z, TPOT_Z, RELEASE_AFTER, WAKE_FOR, NETWORK_J_PER_TOKEN, WARM_UP, TICK,
    STALENESS, ACTUAL_START, ACTUAL_STEP, HOUR_ZERO, WAKE_W, EXCHANGE,
) = range(15)  # fmt: skip
SCALARS = 16

# Why a request has no answer, as places in `REASONS`; 0 for one that has.
SERVED = 0
SHED, BUDGET_IMPOSSIBLE, NO_ENDPOINT, POLICY_EXCLUDES, RESIDENCY_EXCLUDED, FAULT = range(
    1, len(REASONS)
)

# Sums, columns, of a region.
(
    SUM_COMPLETED, SUM_J, SUM_MARGINAL_J, SUM_G, SUM_MARGINAL_G, SUM_PROMPT_J, SUM_MET,
    SUM_INPUT, SUM_CACHED, SUMS,
) = range(10)  # fmt: skip

# Rows of requests, float and integer columns.
ROW_FLOATS = (
    "arrival_s", "start_s", "ttft_s", "end_s", "energy_j_attributional", "energy_j_marginal",
    "gco2e_attributional", "gco2e_marginal", "g_per_kwh", "prompt_energy_j_attributional",
    "cached_tokens",
)  # fmt: skip
ROW_INTS = (
    "request", "origin", "model", "region", "endpoint", "input_tokens", "output_tokens",
    "budget_met", "shed_reason",
)  # fmt: skip


class Plant(NamedTuple):
    """Replicas and what they are made of. ``due`` and ``winners`` (2 * leaves,): a tournament
    of next events; node 1 holds the first of all, replica r is leaf ``leaves + r``. Heaps of
    ``max_batch`` entries, and a margin of inf, lie at column HEAP of a replica; so do ``reading``,
    the slots whose prompts are read, in order, and ``places``, a ring of free places, with when
    each came free. ``kept``: of the prompts that each replica read, in blocks of ``block_tokens``
    (1,).
    """

    replicas: Floats
    states: Ints
    due: Floats
    winners: Ints
    reading: Ints
    places: Ints
    freed_at: Floats
    deadline_keys: Floats
    deadline_slots: Ints
    kept: Caches
    block_tokens: Floats


class Flights(NamedTuple):
    """Requests under way: slots, and the heap of those on the wire, either way. ``chains`` (slots,
    most blocks): of their prompts."""

    floats: Floats
    ints: Ints
    wire_keys: Floats
    wire_slots: Ints
    chains: Ints


class Columns(NamedTuple):
    """What decisions read, by model: the kernel's columns, padded to the widest model.

    ``tables`` (models, rows, n), ``row_replicas`` (models, n), ``sizes`` (models, 2): candidates
    and regions. ``rungs`` (1 + rungs, PARAMS): the policy, as it says and on each rung of its
    ladder. ``masks``: residency bits by code. ``scratch``: the kernel's own. ``server_blocks``
    (models, n): tokens of a block that a server keeps; ``cached`` (n,): what of a prompt is
    expected there, ``uncached`` (n,) nothing.
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
    server_blocks: Floats
    cached: Floats
    uncached: Floats


# What a row says of an endpoint, columns: requests in flight, places claimed, then of those
# requests as of `router.core.burden.Burdens`, the times of their prompts, and sums over all prompts
# ever sent, of their times and of what they take at the pace that answers tolerate.
(
    R_IN_FLIGHT, R_CLAIM, R_PACE, R_PACE2, R_CACHED, R_PROMPTS, R_SENT, R_PACED, ROW,
) = range(9)  # fmt: skip


class GateSharing(NamedTuple):
    """What gateways that share a store say, and have read; of others that do not, nothing.

    ``accounts`` (gateways, endpoints, ACCOUNT) of `router.core.allotments`. ``rows`` (gateways,
    endpoints, ROW): what each said last; ``sums`` (endpoints, ROW) of them; ``peers`` (gateways,
    endpoints, ROW): of all others, as each has read it. ``row_caps``, ``peer_caps`` (endpoints,
    gateways): the longest mean iteration that own requests, and those of all others, tolerate, ms.
    ``sent`` (gateways, endpoints, 2): prompts that each ever sent, as R_SENT and R_PACED.
    ``asks`` (gateways, endpoints): whether an endpoint is still chosen when the claim there is used
    up, to say so. ``exchanged`` (gateways,): when each last did, s.
    """

    accounts: Floats
    rows: Floats
    sums: Floats
    peers: Floats
    row_caps: Floats
    peer_caps: Floats
    sent: Floats
    asks: Ints
    exchanged: Floats


class Gates(NamedTuple):
    """What each gateway knows. ``live`` (gateways, models, rows, n): the boards.

    ``seats`` (gateways, endpoints, 6): own requests, turns, capped requests, least cap (a step of
    `router.core.pace.floor_pace`), whether something was learned that is not published yet, and
    polls since its last own request. ``burdens`` (gateways, endpoints, columns): sums over own
    requests, what one of them usually adds, when the prompts of all of them are read, s, when
    they would be at the pace that answers tolerate, s, and the
    sum of their times, ms.
    ``others`` (gateways, endpoints): foreign requests at the last poll. ``total`` (endpoints, 2):
    requests in flight to each endpoint, and the most there ever were. ``caps`` (gateways,
    endpoints, PACES): how many requests have each cap. ``errors`` (gateways, endpoints,
    columns): the wait's, of `router.core.latency`, then mean and variance of the log ratio of TPOT.
    ``cells``: where an endpoint's candidates lie, (model, row) from ``cell_starts``.
    ``kept``: of the prompts sent there, a cache for each (gateway, model, row), one after the
    other, ``beliefs`` (caches, columns) of `router.core.prefixes`; ``keeps`` (models,): whether
    anybody who serves it keeps prompts. ``sharing``: where gateways exchange their counts.
    """

    live: Floats
    seats: Ints
    others: Floats
    total: Ints
    burdens: Floats
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
    kept: Caches
    beliefs: Floats
    keeps: Ints
    sharing: GateSharing


class Tally(NamedTuple):
    """What is counted. ``offered`` (1,): requests; ``relaxed`` (rungs,): those decided with each
    rung of the ladder. ``latencies`` (3, BINS): TTFT, end-to-end and TPOT. ``hours`` (hours,
    regions): requests by hour of arrival. ``moves`` (origins, models, regions): since the last
    update. ``answered`` (models, replicas).
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
    answered: Ints


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
    chain_starts: Ints
    chain_keys: Ints


class World(NamedTuple):
    """Everything that the compiled loop reads and writes."""

    plant: Plant
    flights: Flights
    columns: Columns
    gates: Gates
    tally: Tally
    registers: Ints
    scalars: Floats

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""What simulated gateways know of the prompts that they sent, compiled: the index is the core's."""

from __future__ import annotations

from router.core.jit import compiled, inlined
from router.core.prefixes import cached_tokens, clear, expect, keep, matched, share_of
from router.lab.sim.engine import gateway as gw
from router.lab.sim.engine import state as s


@inlined
def _belief(columns, g, m, row):
    """The number of the cache that keeps what gateway ``g`` sent to candidate ``row``."""
    models, n = columns.row_replicas.shape
    return (g * models + m) * n + row


@compiled
def expect_cached(world, arrivals, i, g, m):
    """Of the prompt of arrival ``i``, what is expected at each candidate: into `Columns.cached`."""
    kept, columns = world.gates.kept, world.columns
    expect(
        kept.slots, kept.entries, kept.states, world.gates.beliefs, _belief(columns, g, m, 0),
        arrivals.chain_keys, arrivals.chain_starts[i], arrivals.chain_starts[i + 1],
        world.plant.block_tokens[0], float(arrivals.input_tokens[i]), columns.server_blocks[m],
        columns.cached,
    )  # fmt: skip


@compiled
def send_prompt(world, arrivals, i, slot):
    """The prompt of arrival ``i`` goes with its request."""
    flights = world.flights
    first, stop = arrivals.chain_starts[i], arrivals.chain_starts[i + 1]
    for at in range(first, stop):
        flights.chains[slot, at - first] = arrivals.chain_keys[at]
    flights.ints[slot, s.BLOCKS] = stop - first


@compiled
def note_prompt(world, arrivals, i, slot, g, m, row):
    """Twin of `PrefixIndex.depart`."""
    gates, flights, columns = world.gates, world.flights, world.columns
    first, stop = arrivals.chain_starts[i], arrivals.chain_starts[i + 1]
    e = world.plant.states[flights.ints[slot, s.REPLICA], s.ENDPOINT]
    belief, kept = _belief(columns, g, m, row), gates.kept
    flights.ints[slot, s.BELIEF] = belief
    blocks = matched(
        kept.slots, kept.entries, kept.states, belief, arrivals.chain_keys, first, stop
    )
    flights.floats[slot, s.SENT_CACHED] = cached_tokens(
        float(blocks), world.plant.block_tokens[0], flights.floats[slot, s.N_IN],
        columns.server_blocks[m, row],
    )  # fmt: skip
    share = share_of(gates.beliefs, belief, gates.seats[g, e, gw.OWN] / gw.batch(gates, g, e))
    keep(kept.slots, kept.entries, kept.states, belief, arrivals.chain_keys, first, stop, share)


@compiled
def forget_prompts(world, g, m, row):
    """The server of candidate ``row`` is gone, and what it kept."""
    kept = world.gates.kept
    clear(kept.slots, kept.entries, kept.states, _belief(world.columns, g, m, row))

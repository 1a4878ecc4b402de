# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Gateways that share a store, compiled: what they hear of each other, and whose a place is.

How places are divided is `router.core.allotments`, called and not copied; the rest is the twin of
`router.peers.gateways`. An exchange takes no time here, no row expires, and no answer is lost.
"""

from __future__ import annotations

import numpy as np

from router.core.allotments import (
    CONFIRMED,
    WANTED,
    WRITTEN,
    has_more,
    plan_claim,
    settle_claim,
)
from router.core.jit import compiled, inlined
from router.lab.sim.engine import gateway as gw
from router.lab.sim.engine import state as s

# Two exchanges of a gateway are so far apart at least, s.
SOON_S = 0.02


@compiled
def exchange(gates, g, now, period_s):
    """Gateway ``g`` says what it has and claims, and reads what the others do."""
    sharing, count = gates.sharing, gates.seats.shape[0]
    for e in range(sharing.sums.shape[0]):
        account = sharing.accounts[g, e]
        plan_claim(account, gates.seats[g, e, gw.OWN], gates.seats[g, e, gw.TURNS], count)
        _say(gates, g, e)
        sent, paced = _hear(gates, g, e)
        peers = sharing.peers[g, e]
        settle_claim(account, peers[s.R_IN_FLIGHT], peers[s.R_CLAIM], True)
        sharing.asks[g, e] = has_more(account)
        if sent > 0.0:
            gw.line_up(gates, g, e, sent, paced, now)
        gw.publish(gates, g, e)
    sharing.exchanged[g] = now
    # At a pace of its own, so that no two gateways stay in step.
    gates.polls[g] = now + period_s * (2.0 + 2.0 * gw.uniform(g, int(now * 1e6))) / 3.0


@inlined
def _say(gates, g, e):
    sharing, burdens = gates.sharing, gates.burdens[g, e]
    row, sums = sharing.rows[g, e], sharing.sums[e]
    for at in range(s.ROW):
        sums[at] -= row[at]
    row[s.R_IN_FLIGHT] = gates.seats[g, e, gw.OWN]
    row[s.R_CLAIM] = sharing.accounts[g, e, WRITTEN]
    row[s.R_PACE], row[s.R_PACE2] = burdens[gw.PACE], burdens[gw.PACE2]
    row[s.R_CACHED] = burdens[gw.CACHED]
    row[s.R_PROMPTS] = burdens[gw.PROMPTS_MS] if row[s.R_IN_FLIGHT] > 0.0 else 0.0
    row[s.R_SENT], row[s.R_PACED] = sharing.sent[g, e, 0], sharing.sent[g, e, 1]
    for at in range(s.ROW):
        sums[at] += row[at]
    sharing.row_caps[e, g] = gw.own_cap(gates, g, e)


@inlined
def _hear(gates, g, e):
    """Into what ``g`` knows of all others; prompts that they sent since it last heard, ms."""
    sharing = gates.sharing
    row, sums, peers = sharing.rows[g, e], sharing.sums[e], sharing.peers[g, e]
    sent, paced = peers[s.R_SENT], peers[s.R_PACED]
    for at in range(s.ROW):
        # Never below 0, whatever is rounded.
        peers[at] = max(0.0, sums[at] - row[at])
    cap = np.inf
    for other in range(gates.seats.shape[0]):
        if other != g:
            cap = min(cap, sharing.row_caps[e, other])
    sharing.peer_caps[e, g] = cap
    return peers[s.R_SENT] - sent, peers[s.R_PACED] - paced


@inlined
def claim(gates, g, e, now, first):
    """Twin of `GatewayLoads.claim`: whether there is a place. ``first``: the first that the request
    was refused at; there it is asked for."""
    sharing = gates.sharing
    gates.polls[g] = min(gates.polls[g], max(now, sharing.exchanged[g] + SOON_S))
    account = sharing.accounts[g, e]
    if gates.seats[g, e, gw.OWN] < account[CONFIRMED]:
        return True
    if first:
        account[WANTED] += 1.0
    sharing.asks[g, e] = 0
    gw.publish(gates, g, e)
    return False

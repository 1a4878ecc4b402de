"""How the places of an endpoint are divided among gateways that hear of each other now and then.

A gateway sends a request to an endpoint while it has fewer there than its *claim* is confirmed to
be. What it claims stands in a row that all others read; it writes and reads in one step, an
*exchange*, and a store puts all exchanges in one order. With ``w`` what a row claims, ``c`` what is
confirmed, and M the endpoint's ``max_in_flight``:

- ``c`` is lowered before a row that claims less is written, so ``c <= w`` at all times;
- ``c`` is raised by an exchange alone: to ``w``, and to no more than M less what the rows of all
  others claim.

So the sum of ``c`` over all gateways never exceeds M: at the exchange that raises one of them the
``w`` of all others, and with them their ``c``, leave room for it, and nothing else raises any. What
holds of rows that expire, and of answers that are lost: `router.peers.gateways`.

How much to claim decides nothing about that, only what is lost by dividing: places that are claimed
and not used. Where there are plenty, everyone claims what may be needed until the next exchange.
Where there are none, a place that came free stays with its gateway for KEPT exchanges, as its own
next request takes it up, and then goes to whoever wants it first.
"""

from __future__ import annotations

import numpy as np

from router.core.jit import entry, inlined

# A gateway's account of one endpoint, columns. CAP: its max_in_flight. IN_FLIGHT, WRITTEN: as its
# row says. CONFIRMED: the claim that holds. WANTED: requests that would have gone there since the
# last exchange. TURNS: requests ever sent there, as of the last exchange. TAKEN: between two, of
# late. OTHERS, CLAIMED: in flight and claimed of others, as last read. OVER: for how many exchanges
# more has been claimed than there is. KEEPS: what was used or wanted at the last ones.
(
    CAP, IN_FLIGHT, WRITTEN, CONFIRMED, WANTED, TURNS, TAKEN, OTHERS, CLAIMED, OVER, KEEPS,
) = range(11)  # fmt: skip
KEPT = 3
ACCOUNT = KEEPS + KEPT

# How much of what was taken between two exchanges is expected at the next.
_TAKEN_KEEPS = 0.8
# Of spare room, what those who take more than others claim ahead at most.
_MOST_AHEAD = 0.25


def parts_of(members: int) -> int:
    """Into how many parts spare room is divided among so many gateways: half of it stays free, for
    those who need more than others do."""
    return max(1, 2 * (members - 1))


_parts_of = inlined(parts_of)


@inlined
def plan_claim(account, in_flight, turns, members):
    """What to say in the next exchange: writes WRITTEN and lowers CONFIRMED.

    ``in_flight``, ``turns``: own requests there now, and ever; ``members``: gateways, this one too.
    """
    cap, confirmed, wanted = account[CAP], account[CONFIRMED], account[WANTED]
    taken = max(turns - account[TURNS], _TAKEN_KEEPS * account[TAKEN])
    account[TURNS], account[TAKEN], account[WANTED] = turns, taken, 0.0
    spare = max(0.0, cap - account[OTHERS] - in_flight)
    ahead = np.floor(spare / _parts_of(members))
    ahead = max(ahead, wanted, min(np.ceil(taken), np.floor(_MOST_AHEAD * spare)))
    claim = in_flight + ahead
    for at in range(KEPT - 1, 0, -1):
        account[KEEPS + at] = account[KEEPS + at - 1]
        claim = max(claim, account[KEEPS + at])
    account[KEEPS] = in_flight + wanted
    # What nobody can have is not asked for: it would look taken to the others.
    claim = max(in_flight, min(claim, max(confirmed, cap - account[CLAIMED])))
    over = account[CLAIMED] + max(confirmed, in_flight) - cap
    account[OVER] = account[OVER] + 1.0 if over > 0.0 else 0.0
    if account[OVER] > KEPT:
        # No passing coincidence: gateways that were each alone for a while have met.
        claim = in_flight
        share = in_flight / max(in_flight + account[OTHERS], 1.0)
        confirmed = max(0.0, in_flight - np.ceil(over * share))
    account[IN_FLIGHT] = in_flight
    account[CONFIRMED] = min(confirmed, claim)
    account[WRITTEN] = claim


@inlined
def settle_claim(account, others, claimed, may_raise):
    """Take in what the exchange read: ``others`` in flight, and ``claimed``, by all other rows."""
    account[OTHERS], account[CLAIMED] = others, claimed
    if may_raise:
        granted = min(account[WRITTEN], account[CAP] - claimed)
        account[CONFIRMED] = max(account[CONFIRMED], granted)


@inlined
def has_more(account):
    """Whether the next exchange may bring more than is confirmed now."""
    return account[CAP] - account[CLAIMED] - account[CONFIRMED] >= 1.0


@entry("void(f8[:,::1], f8[::1], f8[::1], f8)")
def plan_claims(accounts, in_flight, turns, members):
    """`plan_claim` of every endpoint; accounts (n, ACCOUNT), in_flight and turns (n,)."""
    for e in range(accounts.shape[0]):
        plan_claim(accounts[e], in_flight[e], turns[e], members)


@entry("void(f8[:,::1], f8[::1], f8[::1], b1)")
def settle_claims(accounts, others, claimed, may_raise):
    """`settle_claim` of every endpoint; ``others`` and ``claimed`` (n,)."""
    for e in range(accounts.shape[0]):
        settle_claim(accounts[e], others[e], claimed[e], may_raise)

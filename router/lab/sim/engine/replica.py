# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""`router.lab.replay.replica`, compiled: the same queue, the same integrals, on flat arrays.

The arithmetic keeps the order of its pure-Python twin, so that both agree to the last digits.
"""

from __future__ import annotations

import numpy as np
from numba.extending import intrinsic

from router.core.jit import compiled, inlined
from router.lab.sim.engine import state as s


@intrinsic
def either(typing_context, condition, yes, no):
    """``yes if condition else no``, for a condition that no branch predictor can learn."""

    def generate(context, builder, signature, arguments):
        chosen = builder.select(*arguments)
        chosen.set_metadata("unpredictable", builder.module.add_metadata([]))
        return chosen

    return yes(condition, yes, no), generate


# Unsigned places spare numba's check for negative indices, which in these loops costs as much as
# the comparisons do.
_0, _1, _2, _3 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)


@inlined
def push(keys, slots, base, size, key, slot):
    """Put (key, slot) into the heap of ``size`` entries that begins at ``base``.

    Every entry has four children. Keys beyond the entries are inf, four of them at least.
    """
    base, i = np.uint64(base), np.uint64(size)
    while i > _0:
        parent = (i - _1) >> _2
        above = keys[base + parent]
        if above <= key:
            break
        keys[base + i] = above
        slots[base + i] = slots[base + parent]
        i = parent
    keys[base + i] = key
    slots[base + i] = slot


@inlined
def pop(keys, slots, base, size):
    """Remove the least entry of a heap of ``size`` >= 1 entries."""
    base, last = np.uint64(base), np.uint64(size - 1)
    key, slot = keys[base + last], slots[base + last]
    keys[base + last] = np.inf
    i, child = _0, _1
    while child < last:
        # No branch on which child is least: it would be guessed wrong most of the time.
        at = base + child
        first, second, third, fourth = keys[at], keys[at + _1], keys[at + _2], keys[at + _3]
        left = child + np.uint64(second < first)
        right = child + _2 + np.uint64(fourth < third)
        less, more = min(first, second), min(third, fourth)
        below = min(less, more)
        if key <= below:
            break
        child = either(more < less, right, left)
        keys[base + i] = below
        slots[base + i] = slots[base + child]
        i = child
        child = (i << _2) + _1
    if last > _0:
        keys[base + i] = key
        slots[base + i] = slot


@inlined
def schedule(plant, r):
    """Note when replica ``r`` has its next event."""
    f, n = plant.replicas, plant.states
    due = np.inf
    if n[r, s.STATE] == s.WAKING:
        due = f[r, s.WAKE_END]
    else:
        if n[r, s.PREFILLS] > 0:
            due = plant.prefill_keys[n[r, s.HEAP]]
        if n[r, s.DEADLINES] > 0:
            left = max(0.0, plant.deadline_keys[n[r, s.HEAP]] - f[r, s.CLOCK])
            tpot = f[r, s.TPOT_BASE] + f[r, s.TPOT_SLOPE] * n[r, s.RUNNING]
            due = min(due, f[r, s.NOW] + left * tpot)
    # A tournament: the winner climbs, and meets the winner of the other half at every node.
    times, winners = plant.due, plant.winners
    node, winner = (times.size >> 1) + r, r
    times[node] = due
    while node > 1:
        rival, other = times[node ^ 1], winners[node ^ 1]
        winner = either(rival < due, other, winner)
        due = min(due, rival)
        node >>= 1
        times[node] = due
        winners[node] = winner


@inlined
def accrue(plant, r, until, release_after):
    """Add [NOW, until] to every integral; nothing changes inside it."""
    f, n = plant.replicas, plant.states
    elapsed = until - f[r, s.NOW]
    if elapsed <= 0.0:
        return
    before = f[r, s.NOW]
    f[r, s.NOW] = until
    batch = n[r, s.RUNNING]
    if batch > 0:
        tpot = f[r, s.TPOT_BASE] + f[r, s.TPOT_SLOPE] * batch
        gained = elapsed / tpot
        share = elapsed / batch
        f[r, s.CLOCK] += gained
        f[r, s.TOKENS] += gained * n[r, s.DECODING]
        f[r, s.BUSY_S] += elapsed
        f[r, s.BATCH_S] += elapsed * batch
        f[r, s.SHARE_S] += share
        if batch == 1:
            f[r, s.AWAKE_S] += elapsed
        elif n[r, s.QUEUED] > 0:
            f[r, s.AWAKE_S] += share
        elif n[r, s.DECODING] > 0:
            f[r, s.AWAKE_S] += gained * f[r, s.TPOT_SLOPE]
    elif n[r, s.STATE] == s.WAKING:
        f[r, s.WAKE_S] += elapsed
    elif n[r, s.STATE] == s.DOWN:
        f[r, s.OFF_S] += elapsed
    else:
        on_s = min(elapsed, max(0.0, f[r, s.IDLE_SINCE] + release_after - before))
        f[r, s.IDLE_S] += on_s
        f[r, s.OFF_S] += elapsed - on_s


@inlined
def _begin_decoding(plant, flights, r, slot):
    f, n = plant.replicas, plant.states
    n[r, s.DECODING] += 1
    due = f[r, s.CLOCK] + flights.floats[slot, s.N_OUT]
    push(plant.deadline_keys, plant.deadline_slots, n[r, s.HEAP], n[r, s.DEADLINES], due, slot)
    n[r, s.DEADLINES] += 1


@inlined
def _fill(plant, flights, r):
    """Give free places to those who wait."""
    f, n, floats = plant.replicas, plant.states, flights.floats
    while n[r, s.QUEUED] > 0 and n[r, s.RUNNING] < n[r, s.MAX_BATCH]:
        slot = n[r, s.HEAD]
        n[r, s.HEAD] = flights.ints[slot, s.NEXT]
        n[r, s.QUEUED] -= 1
        n[r, s.RUNNING] += 1
        now = f[r, s.NOW]
        floats[slot, s.STARTED] = now
        floats[slot, s.SHARE] = f[r, s.SHARE_S]
        floats[slot, s.AWAKE] = f[r, s.AWAKE_S]
        if n[r, s.ONE_UNIT] != 0:
            _begin_decoding(plant, flights, r, slot)
        else:
            prefill = f[r, s.PREFILL_BASE] + f[r, s.PREFILL_TOKEN] * floats[slot, s.N_IN]
            floats[slot, s.FIRST] = now + prefill
            push(
                plant.prefill_keys, plant.prefill_slots, n[r, s.HEAP], n[r, s.PREFILLS],
                now + prefill, slot,
            )  # fmt: skip
            n[r, s.PREFILLS] += 1


@inlined
def admit(plant, flights, r, slot, now, release_after, wake_for):
    """A request reaches replica ``r``, which is not down."""
    f, n = plant.replicas, plant.states
    accrue(plant, r, now, release_after)
    idle = n[r, s.RUNNING] == 0 and n[r, s.STATE] == s.UP
    flights.ints[slot, s.PHASE] = s.PLACED
    if n[r, s.QUEUED] == 0:
        n[r, s.HEAD] = slot
    else:
        flights.ints[n[r, s.TAIL], s.NEXT] = slot
    n[r, s.TAIL] = slot
    n[r, s.QUEUED] += 1
    if idle and now - f[r, s.IDLE_SINCE] > release_after:
        n[r, s.STATE] = s.WAKING
        f[r, s.WAKE_END] = now + wake_for
    elif n[r, s.STATE] == s.UP:
        _fill(plant, flights, r)
    schedule(plant, r)


@inlined
def step(plant, flights, r, release_after):
    """The next event of ``r``, the replica that is first; the slot that ended by it, else -1."""
    f, n, floats = plant.replicas, plant.states, flights.floats
    now = plant.due[1]
    accrue(plant, r, now, release_after)
    heap = n[r, s.HEAP]
    ended = -1
    if n[r, s.STATE] == s.WAKING:
        n[r, s.STATE] = s.UP
        _fill(plant, flights, r)
    elif n[r, s.PREFILLS] > 0 and plant.prefill_keys[heap] <= now:
        slot = plant.prefill_slots[heap]
        pop(plant.prefill_keys, plant.prefill_slots, heap, n[r, s.PREFILLS])
        n[r, s.PREFILLS] -= 1
        _begin_decoding(plant, flights, r, slot)
    else:
        ended = plant.deadline_slots[heap]
        f[r, s.CLOCK] = max(f[r, s.CLOCK], plant.deadline_keys[heap])
        pop(plant.deadline_keys, plant.deadline_slots, heap, n[r, s.DEADLINES])
        n[r, s.DEADLINES] -= 1
        if n[r, s.ONE_UNIT] != 0:
            floats[ended, s.FIRST] = now
        floats[ended, s.ENDED] = now
        share_s = f[r, s.SHARE_S] - floats[ended, s.SHARE]
        awake_s = f[r, s.AWAKE_S] - floats[ended, s.AWAKE]
        own_j = f[r, s.J_PER_TOKEN] * floats[ended, s.N_OUT]
        floats[ended, s.SHARE] = (own_j + f[r, s.BASE_W] * share_s) * f[r, s.HOST]
        awake_w = f[r, s.BASE_W] - f[r, s.IDLE_W]
        floats[ended, s.AWAKE] = (own_j + awake_w * awake_s) * f[r, s.HOST]
        n[r, s.DECODING] -= 1
        n[r, s.RUNNING] -= 1
        if n[r, s.QUEUED] > 0:
            _fill(plant, flights, r)
        if n[r, s.RUNNING] == 0:
            # The clock only matters between sequences that overlap.
            f[r, s.CLOCK] = 0.0
            f[r, s.IDLE_SINCE] = now
    schedule(plant, r)
    return ended


@compiled
def go_down(plant, r, now, release_after):
    """Replica ``r`` dies: whatever it held is gone. The caller marks the slots."""
    f, n = plant.replicas, plant.states
    accrue(plant, r, now, release_after)
    n[r, s.STATE] = s.DOWN
    n[r, s.RUNNING] = 0
    n[r, s.DECODING] = 0
    n[r, s.QUEUED] = 0
    for at in range(n[r, s.HEAP], n[r, s.HEAP] + n[r, s.MAX_BATCH]):
        plant.prefill_keys[at] = np.inf
        plant.deadline_keys[at] = np.inf
    n[r, s.PREFILLS] = 0
    n[r, s.DEADLINES] = 0
    f[r, s.CLOCK] = 0.0
    schedule(plant, r)


@compiled
def come_up(plant, r, now, release_after):
    """Replica ``r`` is back, awake and idle."""
    accrue(plant, r, now, release_after)
    plant.states[r, s.STATE] = s.UP
    plant.replicas[r, s.IDLE_SINCE] = now
    schedule(plant, r)

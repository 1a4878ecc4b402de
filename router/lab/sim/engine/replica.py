# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""`router.lab.replay.replica`, compiled: the same queue, the same integrals, on flat arrays.

The arithmetic keeps the order of its pure-Python twin, so that both agree to the last digits.
"""

from __future__ import annotations

import numpy as np
from numba.extending import intrinsic

from router.core.burden import context_tokens
from router.core.jit import compiled, inlined
from router.core.prefixes import cached_tokens, clear, keep, matched
from router.lab.replay.replica import CLOCK_ROUNDING
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
def _climb(plant, r, due):
    """A tournament: the winner climbs, and meets the winner of the other half at every node."""
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
def schedule(plant, r):
    """Note when replica ``r`` has its next event, and which."""
    f, n = plant.replicas, plant.states
    due, comes = np.inf, s.NOTHING
    if n[r, s.STATE] == s.WAKING:
        due, comes = f[r, s.WAKE_END], s.WAKES
    elif f[r, s.ITERATION_ENDS] < np.inf:
        due, comes = f[r, s.ITERATION_ENDS], s.ENDS
    else:
        clock, boundary = np.inf, np.inf
        if n[r, s.DEADLINES] > 0:
            clock, comes = plant.deadline_keys[n[r, s.HEAP]], s.COMPLETES
        if _has_prompts(n, r):
            boundary = np.ceil(f[r, s.CLOCK] - CLOCK_ROUNDING)
        if boundary < clock:
            clock, comes = boundary, s.BEGINS
        if clock < np.inf:
            due = f[r, s.NOW] + max(0.0, clock - f[r, s.CLOCK]) * f[r, s.ITERATION_S]
    n[r, s.COMES] = comes
    _climb(plant, r, due)


@inlined
def _has_prompts(n, r):
    return n[r, s.READING] > 0 or (
        n[r, s.QUEUED] > 0 and n[r, s.RUNNING] < n[r, s.MAX_BATCH] and n[r, s.ONE_UNIT] == 0
    )


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
        gained = elapsed / f[r, s.ITERATION_S]
        decoding = n[r, s.DECODING]
        f[r, s.CLOCK] += gained
        f[r, s.TOKENS] += gained * decoding
        f[r, s.BUSY_S] += elapsed
        f[r, s.BATCH_S] += elapsed * batch
        f[r, s.PROMPT_S] += gained * (f[r, s.ITERATION_S] - f[r, s.DECODE_S])
        if decoding > 0:
            decode = gained * f[r, s.DECODE_S]
            share = decode / decoding
            f[r, s.SHARE_S] += share
            if batch == 1:
                f[r, s.AWAKE_S] += decode
            elif n[r, s.QUEUED] > 0 and batch == n[r, s.MAX_BATCH]:
                f[r, s.AWAKE_S] += share
            else:
                f[r, s.BESIDE_TICKS] += gained
    elif n[r, s.STATE] == s.WAKING:
        f[r, s.WAKE_S] += elapsed
    elif n[r, s.STATE] == s.DOWN:
        f[r, s.OFF_S] += elapsed
    elif n[r, s.STATE] == s.ASLEEP:
        f[r, s.ASLEEP_S] += elapsed
    else:
        on_s = min(elapsed, max(0.0, f[r, s.IDLE_SINCE] + release_after - before))
        f[r, s.IDLE_S] += on_s
        f[r, s.ASLEEP_S] += elapsed - on_s


@inlined
def _retick(f, n, r):
    """An iteration without prompts takes another time from now on."""
    if n[r, s.DECODING] == 0:
        f[r, s.CACHED_THERE] = 0.0
    f[r, s.DECODE_S] = (
        f[r, s.TPOT_BASE]
        + f[r, s.TPOT_SLOPE] * n[r, s.DECODING]
        + f[r, s.TPOT_CACHED] * f[r, s.CACHED_THERE]
    )
    f[r, s.ITERATION_S] = f[r, s.DECODE_S]


@inlined
def _begin_decoding(plant, flights, r, slot, first):
    """``first``: tokens that are there already."""
    f, n, floats = plant.replicas, plant.states, flights.floats
    n[r, s.DECODING] += 1
    f[r, s.CACHED_THERE] += context_tokens(floats[slot, s.N_IN], floats[slot, s.N_OUT])
    floats[slot, s.SHARE] = f[r, s.SHARE_S]
    floats[slot, s.AWAKE] = f[r, s.AWAKE_S]
    floats[slot, s.BESIDE] = f[r, s.BESIDE_TICKS]
    due = f[r, s.CLOCK] + floats[slot, s.N_OUT] - first
    push(plant.deadline_keys, plant.deadline_slots, n[r, s.HEAP], n[r, s.DEADLINES], due, slot)
    n[r, s.DEADLINES] += 1


@inlined
def _queue_for_reading(plant, flights, r, slot):
    """Take the place least recently used, and a turn among the prompts that are read."""
    n, ints = plant.states, flights.ints
    heap, at = n[r, s.HEAP], n[r, s.READING]
    n[r, s.READING] += 1
    if n[r, s.BY_SLOT] != 0:
        place = plant.places[heap + n[r, s.FREE_PLACE]]
        n[r, s.FREE_PLACE] = (n[r, s.FREE_PLACE] + 1) % n[r, s.MAX_BATCH]
        ints[slot, s.PLACE] = place
        while at > 0 and ints[plant.reading[heap + at - 1], s.PLACE] > place:
            plant.reading[heap + at] = plant.reading[heap + at - 1]
            at -= 1
    plant.reading[heap + at] = slot


@compiled
def _cached(plant, flights, r, slot):
    """Tokens of the prompt in ``slot`` that need not be read."""
    kept, blocks = plant.kept, flights.ints[slot, s.BLOCKS]
    there = matched(kept.slots, kept.entries, kept.states, r, flights.chains[slot], 0, blocks)
    n_in = flights.floats[slot, s.N_IN]
    return cached_tokens(
        float(there), plant.block_tokens[0], n_in, plant.replicas[r, s.PREFIX_BLOCK]
    )


@compiled
def _keep(plant, flights, r, slot):
    """The prompt in ``slot`` was read."""
    kept, blocks = plant.kept, flights.ints[slot, s.BLOCKS]
    keep(kept.slots, kept.entries, kept.states, r, flights.chains[slot], 0, blocks, 1.0)


@inlined
def _fill(plant, flights, r):
    """Give free slots to those who wait."""
    f, n, floats = plant.replicas, plant.states, flights.floats
    while n[r, s.QUEUED] > 0 and n[r, s.RUNNING] < n[r, s.MAX_BATCH]:
        slot = n[r, s.HEAD]
        n[r, s.HEAD] = flights.ints[slot, s.NEXT]
        n[r, s.QUEUED] -= 1
        n[r, s.RUNNING] += 1
        floats[slot, s.STARTED] = f[r, s.NOW]
        floats[slot, s.CACHED] = 0.0
        if flights.ints[slot, s.BLOCKS] > 0:
            floats[slot, s.CACHED] = _cached(plant, flights, r, slot)
        floats[slot, s.READ] = floats[slot, s.CACHED]
        floats[slot, s.PIECE] = 0.0
        floats[slot, s.READING_S] = 0.0
        floats[slot, s.READ_ALONE] = 0.0
        if n[r, s.ONE_UNIT] != 0:
            _begin_decoding(plant, flights, r, slot, 0.0)
            _retick(f, n, r)
        else:
            _queue_for_reading(plant, flights, r, slot)


@inlined
def _begin_iteration(plant, flights, r):
    """An iteration that reads prompts, as far as it has room for them."""
    f, n, floats = plant.replicas, plant.states, flights.floats
    f[r, s.CLOCK] = np.rint(f[r, s.CLOCK])
    _fill(plant, flights, r)
    heap = n[r, s.HEAP]
    room = f[r, s.MAX_TOKENS] - n[r, s.DECODING]
    pieces_s, pieces, done = 0.0, 0, 0
    while pieces < n[r, s.READING] and room > 0.0:
        slot = plant.reading[heap + pieces]
        size = min(room, floats[slot, s.N_IN] - floats[slot, s.READ])
        piece_s = (
            f[r, s.PREFILL_PIECE]
            + (f[r, s.PREFILL_TOKEN] + f[r, s.PREFILL_TOKEN2] * (floats[slot, s.READ] + size / 2.0))
            * size
        )
        floats[slot, s.READ] += size
        floats[slot, s.PIECE] += piece_s
        floats[slot, s.READING_S] += piece_s
        floats[slot, s.READ_ALONE] += piece_s
        room -= size
        pieces_s += piece_s
        pieces += 1
        done += floats[slot, s.READ] >= floats[slot, s.N_IN]
    if n[r, s.DECODING] == 0:
        for at in range(pieces):
            slot = plant.reading[heap + at]
            floats[slot, s.READING_S] += f[r, s.DECODE_S] / pieces
            if pieces == 1:
                floats[slot, s.READ_ALONE] += f[r, s.DECODE_S]
    n[r, s.DONE] = done
    f[r, s.ITERATION_S] = f[r, s.DECODE_S] + pieces_s
    f[r, s.ITERATION_ENDS] = f[r, s.NOW] + f[r, s.ITERATION_S]


@inlined
def _end_iteration(plant, flights, r):
    f, n = plant.replicas, plant.states
    heap, done = n[r, s.HEAP], n[r, s.DONE]
    f[r, s.ITERATION_ENDS] = np.inf
    f[r, s.CLOCK] = np.rint(f[r, s.CLOCK])
    # Prompts are read in order: those that are done stand first.
    for at in range(done):
        slot = plant.reading[heap + at]
        flights.floats[slot, s.FIRST] = f[r, s.NOW]
        if flights.ints[slot, s.BLOCKS] > 0:
            _keep(plant, flights, r, slot)
        f[r, s.TOKENS] += 1.0
        _begin_decoding(plant, flights, r, slot, 1.0)
    n[r, s.READING] -= done
    for at in range(n[r, s.READING]):
        plant.reading[heap + at] = plant.reading[heap + at + done]
    _retick(f, n, r)


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
    if n[r, s.STATE] == s.ASLEEP or (idle and now - f[r, s.IDLE_SINCE] > release_after):
        _begin_waking(plant, r, now, wake_for)
    elif n[r, s.STATE] == s.UP:
        _take_up(plant, flights, r)
    schedule(plant, r)


@inlined
def _begin_waking(plant, r, now, wake_for):
    plant.states[r, s.STATE] = s.WAKING
    plant.replicas[r, s.WAKE_END] = now + wake_for


@inlined
def wake(plant, r, now, release_after, wake_for):
    """Replica ``r`` is wanted awake: where it is released it wakes, else it is idle from now on."""
    f, n = plant.replicas, plant.states
    if n[r, s.STATE] != s.UP or n[r, s.RUNNING] + n[r, s.QUEUED] > 0:
        return
    accrue(plant, r, now, release_after)
    if now - f[r, s.IDLE_SINCE] > release_after:
        _begin_waking(plant, r, now, wake_for)
        schedule(plant, r)
    else:
        f[r, s.IDLE_SINCE] = now


@inlined
def scale(plant, r, awake, now, release_after, wake_for):
    """Whoever scales the fleet wakes replica ``r``, or lets it go, which nobody is on or on the
    way to."""
    n = plant.states
    accrue(plant, r, now, release_after)
    if not awake:
        n[r, s.STATE] = s.ASLEEP
    elif n[r, s.STATE] == s.ASLEEP:
        _begin_waking(plant, r, now, wake_for)
    schedule(plant, r)


@inlined
def _take_up(plant, flights, r):
    """Whoever waits may do so no longer: in an idle replica an iteration begins at once."""
    if plant.states[r, s.ONE_UNIT] != 0:
        _fill(plant, flights, r)
    elif plant.states[r, s.RUNNING] == 0 and plant.states[r, s.QUEUED] > 0:
        _begin_iteration(plant, flights, r)


@inlined
def _free_place(plant, r, place):
    """``place`` is free last; of those that came free at once the lowest goes first."""
    f, n, heap = plant.replicas, plant.states, plant.states[r, s.HEAP]
    size, before = n[r, s.MAX_BATCH], n[r, s.MAX_BATCH] - n[r, s.RUNNING] - 1
    at = (n[r, s.FREE_PLACE] + before) % size
    while before > 0:
        last = (at + size - 1) % size
        if plant.freed_at[heap + last] != f[r, s.NOW] or plant.places[heap + last] < place:
            break
        plant.places[heap + at] = plant.places[heap + last]
        plant.freed_at[heap + at] = f[r, s.NOW]
        at = last
        before -= 1
    plant.places[heap + at] = place
    plant.freed_at[heap + at] = f[r, s.NOW]


@inlined
def _complete(plant, flights, r):
    """The sequence whose tokens are all there leaves; returns its slot."""
    f, n, floats = plant.replicas, plant.states, flights.floats
    heap = n[r, s.HEAP]
    slot = plant.deadline_slots[heap]
    f[r, s.CLOCK] = max(f[r, s.CLOCK], plant.deadline_keys[heap])
    pop(plant.deadline_keys, plant.deadline_slots, heap, n[r, s.DEADLINES])
    n[r, s.DEADLINES] -= 1
    if n[r, s.ONE_UNIT] != 0:
        floats[slot, s.FIRST] = f[r, s.NOW]
    floats[slot, s.ENDED] = f[r, s.NOW]
    context = context_tokens(floats[slot, s.N_IN], floats[slot, s.N_OUT])
    slower_s = f[r, s.TPOT_SLOPE] + f[r, s.TPOT_CACHED] * context
    share_s = f[r, s.SHARE_S] - floats[slot, s.SHARE]
    awake_s = f[r, s.AWAKE_S] - floats[slot, s.AWAKE]
    awake_s += (f[r, s.BESIDE_TICKS] - floats[slot, s.BESIDE]) * slower_s
    own_j = f[r, s.J_PER_TOKEN] * floats[slot, s.N_OUT]
    pieces_j = (f[r, s.PREFILL_W] - f[r, s.BASE_W]) * floats[slot, s.PIECE]
    prompt_j = f[r, s.BASE_W] * floats[slot, s.READING_S] + pieces_j
    awake_w = f[r, s.BASE_W] - f[r, s.IDLE_W]
    floats[slot, s.READING_S] = prompt_j
    floats[slot, s.SHARE] = own_j + f[r, s.BASE_W] * share_s + prompt_j
    floats[slot, s.AWAKE] = own_j + awake_w * (awake_s + floats[slot, s.READ_ALONE]) + pieces_j
    n[r, s.DECODING] -= 1
    n[r, s.RUNNING] -= 1
    f[r, s.CACHED_THERE] -= context
    _retick(f, n, r)
    if n[r, s.BY_SLOT] != 0:
        _free_place(plant, r, flights.ints[slot, s.PLACE])
    return slot


@inlined
def step(plant, flights, r, release_after):
    """The next event of ``r``, the replica that is first; the slot that ended by it, else -1."""
    f, n = plant.replicas, plant.states
    now = plant.due[1]
    accrue(plant, r, now, release_after)
    ended, comes = -1, n[r, s.COMES]
    if comes == s.COMPLETES:
        ended = _complete(plant, flights, r)
        if n[r, s.ONE_UNIT] != 0 and n[r, s.QUEUED] > 0:
            _fill(plant, flights, r)
        if n[r, s.RUNNING] == 0:
            # The clock only matters between sequences that overlap.
            f[r, s.CLOCK] = 0.0
            f[r, s.IDLE_SINCE] = now
    elif comes == s.ENDS:
        _end_iteration(plant, flights, r)
    elif comes == s.BEGINS:
        _begin_iteration(plant, flights, r)
    else:
        # Begun anew, it has kept no prompts.
        clear(plant.kept.slots, plant.kept.entries, plant.kept.states, r)
        n[r, s.STATE] = s.UP
        f[r, s.IDLE_SINCE] = now
        _take_up(plant, flights, r)
    schedule(plant, r)
    return ended


@compiled
def go_down(plant, r, now, release_after):
    """Replica ``r`` dies: whatever it held is gone. The caller marks the slots."""
    f, n = plant.replicas, plant.states
    accrue(plant, r, now, release_after)
    clear(plant.kept.slots, plant.kept.entries, plant.kept.states, r)
    n[r, s.STATE] = s.DOWN
    n[r, s.RUNNING] = 0
    n[r, s.DECODING] = 0
    n[r, s.QUEUED] = 0
    for at in range(n[r, s.MAX_BATCH]):
        plant.deadline_keys[n[r, s.HEAP] + at] = np.inf
        plant.places[n[r, s.HEAP] + at] = n[r, s.MAX_BATCH] - 1 - at
        plant.freed_at[n[r, s.HEAP] + at] = -np.inf
    n[r, s.READING] = 0
    n[r, s.FREE_PLACE] = 0
    n[r, s.DEADLINES] = 0
    f[r, s.ITERATION_ENDS] = np.inf
    f[r, s.CLOCK] = 0.0
    _retick(f, n, r)
    schedule(plant, r)


@compiled
def come_up(plant, r, now, release_after):
    """Replica ``r`` is back, awake and idle."""
    accrue(plant, r, now, release_after)
    plant.states[r, s.STATE] = s.UP
    plant.replicas[r, s.IDLE_SINCE] = now
    schedule(plant, r)

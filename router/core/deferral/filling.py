"""Work of one kind laid into buckets of room, cheapest first.

A bucket is the room of one region and slot on replicas that are awake, or on others. Work may lie
in any bucket as long as enough lies in early ones: of all slots from h on, at most ``room[h]``.
Slots from h on are nested, as are buckets within slots, and so whoever takes the cheapest first and
as much as fits ends with the least cost of all (the greedy algorithm on a laminar matroid).
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from router.core.jit import entry


# At import: a first plan is made beside requests, which are not to wait for a compiler.
@entry("void(i8[::1], i8[::1], f8[::1], f8[::1], f8[::1])")
def fill_cheapest(order, slot_of, capacity, room, taken):
    """Put into ``taken`` (buckets,) how much of each is used.

    ``order`` (buckets,): by cost. ``slot_of``, ``capacity`` (buckets,). ``room`` (slots,): what may
    still lie in slots from each on; it is used up.
    """
    for i in range(order.size):
        bucket = order[i]
        slot = slot_of[bucket]
        most = capacity[bucket]
        for h in range(slot + 1):
            most = min(most, room[h])
        if most > 0.0:
            taken[bucket] += most
            capacity[bucket] -= most
            for h in range(slot + 1):
                room[h] -= most

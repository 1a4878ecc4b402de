"""Slots of a published forecast that the publisher did not state.

Slots are consecutive, so a hole needs a slot, too: one that expired when it was issued, which the
chain fills from elsewhere. Its value is the line between its neighbours, so that whoever looks at
it all the same sees something near, and stale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from router.model import Intensity


def bridged(slots: Sequence[Intensity | None]) -> tuple[Intensity, ...]:
    """``slots`` with a hole for each None. Raises ValueError unless both ends are stated."""
    if not slots or slots[0] is None or slots[-1] is None:
        raise ValueError("a forecast starts and ends with a slot that is stated")
    found: list[Intensity] = []
    before, gap = slots[0], 0
    for slot in slots:
        if slot is None:
            gap += 1
            continue
        found += [_hole(before, slot, (i + 1) / (gap + 1)) for i in range(gap)]
        found.append(slot)
        before, gap = slot, 0
    return tuple(found)


def is_stated(slot: Intensity) -> bool:
    """Whether the publisher stated this slot."""
    return slot.expires_at > slot.observed_at


def _hole(before: Intensity, after: Intensity, share: float) -> Intensity:
    def between(low: float, high: float) -> float:
        return low + (high - low) * share

    return replace(
        before,
        g_per_kwh=between(before.g_per_kwh, after.g_per_kwh),
        low_g_per_kwh=min(before.low_g_per_kwh, after.low_g_per_kwh),
        high_g_per_kwh=max(before.high_g_per_kwh, after.high_g_per_kwh),
        expires_at=before.observed_at,
    )

"""What a gateway says of its endpoints, as conditions to wait for."""

from tests.e2e.faults.fleet import FRONTS


async def endpoints_of(gateway, pair, fronts=FRONTS):
    """A pair's endpoints in the clean region, as /snapshot tells of them."""
    starts = tuple(f"{pair}-{front}-" for front in fronts)
    seen = await gateway.endpoints()
    return [one for name, one in seen.items() if name.startswith(starts)]


async def are(gateway, pair, state, fronts=FRONTS):
    """Whether all of a pair's are in this state."""
    return all(one["state"] == state for one in await endpoints_of(gateway, pair, fronts))


async def hold(gateway, pair, count, fronts=FRONTS):
    """Whether each of a pair's has so many requests."""
    return all(one["in_flight"] == count for one in await endpoints_of(gateway, pair, fronts))


async def hold_some(gateway, pair, count, fronts=FRONTS):
    """Whether a pair's have so many requests together, at least."""
    return sum(one["in_flight"] for one in await endpoints_of(gateway, pair, fronts)) >= count

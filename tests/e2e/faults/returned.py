"""Whether a gateway has given back all that it held once nothing is under way any more."""

import gc
from typing import NamedTuple

from tests.e2e.harness import until

# gRPC's pool of threads grows a little; a thread a request would be dozens.
_MORE_THREADS = 8
# A probe may be under way at any time, and so may the page of metrics that tells.
_MORE_TASKS = 6


class Holdings(NamedTuple):
    """What a process holds. ``clients``, ``upstream``: connections; ``others``: descriptors of
    another kind, but for files; ``tasks``: of the event loop."""

    in_flight: int
    clients: int
    upstream: int
    others: int
    threads: int
    tasks: int


async def holdings(gateway):
    """What it holds now."""
    clients, upstream, others = gateway.open_files()
    counted = await gateway.total("tasks")
    at_endpoints = [one["in_flight"] for one in (await gateway.endpoints()).values()]
    assert all(count >= 0 for count in at_endpoints), at_endpoints
    return Holdings(
        sum(at_endpoints), clients, upstream, others, gateway.threads(), int(counted)
    )  # fmt: skip


def collect_calls():
    """A client's call that was left half-way holds its connection until it is collected."""
    gc.collect()


async def assert_all_returned(gateway, before, also_upstream=False):
    """Nothing that a test brought about is left: leases, connections, descriptors, tasks.

    ``before``: what the gateway held in calm. ``also_upstream``: kept connections to servers as
    well, which takes seconds, since idle ones are kept for some.
    """
    collect_calls()
    seen = []

    async def back():
        now = await holdings(gateway)
        seen[:] = [now]
        return (
            now.in_flight == 0
            and await gateway.total("endpoint_in_flight") == 0.0
            and now.clients <= before.clients
            and now.others <= before.others
            and now.tasks <= before.tasks + _MORE_TASKS
            and (not also_upstream or now.upstream <= before.upstream)
        )

    try:
        await until(back, "everything being given back")
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen} after {before}") from None
    assert seen[0].threads <= before.threads + _MORE_THREADS, (seen, before)

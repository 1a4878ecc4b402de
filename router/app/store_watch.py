"""Whether the store that gateways share can be had: watched in the background, told of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from router.app.runtime import Runtime
from router.app.same_fleet import FleetWatch
from router.director.dispatcher import STATE_STORE_FAILING
from router.state.watched import WatchedStore
from router.telemetry.admin import Reason


def sharing(
    store: WatchedStore | None, runtime: Runtime, identity: str
) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """The background jobs by name, of which ``runtime`` tells in its readiness; none without a
    store. Nothing of it keeps a gateway from serving."""
    if store is None:
        return {}
    watch = FleetWatch(store, runtime, identity)
    runtime.notes += [lambda: store_notes(store), watch.notes]
    return {"state_store": store.probe, "fleet": watch.run}


def store_notes(store: WatchedStore) -> Sequence[Reason]:
    """What readiness says of a store."""
    health = store.health()
    if health.ok:
        return ()
    detail = f"{health.why}, for {health.failing_s:.0f} s: this gateway knows of itself alone"
    return (Reason(STATE_STORE_FAILING, detail, False),)

"""All that one process shares with those of other gateways, as one: nothing, without a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from router.app.carbon.elections import ElectionRounds
from router.app.fleet_loads import share_loads
from router.app.runtime import Runtime
from router.app.store_watch import sharing
from router.contract import Rng
from router.director import Dispatcher
from router.gateway.shared_receipts import SharedReceipts
from router.peers.members import SeenMembers
from router.state.watched import WatchedStore
from router.telemetry.metrics import Metrics


class FleetSharing:
    """Built once a process; `join` and `stand` before anything is served, `work` in the background,
    `leave` and `close` at the end. ``receipts``: None without a store."""

    def __init__(
        self,
        store: WatchedStore | None,
        identity: str,
        group: str,
        runtime: Runtime,
        rng: Rng,
        metrics: Metrics,
        members: SeenMembers,
    ) -> None:
        """``identity``: of this process among all; ``group``: of the gateway whose worker it is;
        ``members``: is told how many processes there are."""
        self._store = store
        self.receipts: SharedReceipts | None = None
        self._watches = sharing(store, runtime, identity)
        self._loads = share_loads(
            store, identity, group, runtime, rng, metrics.fleet_loads, members
        )
        if store is not None:
            self.receipts = SharedReceipts(store, runtime.clock, metrics.receipts_shared)
            self._elections = ElectionRounds(runtime, metrics.carbon, rng)

    def join(self, dispatcher: Dispatcher) -> None:
        """Places are shared with all gateways from here on, and decisions say whether they could
        be."""
        if self._store is not None:
            dispatcher.store_fails = self._store.fails
        if self._loads is not None:
            self._loads.join(dispatcher)

    def work(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The background jobs, by name."""
        if self._loads is None or self.receipts is None:
            return {}
        return {
            **self._watches,
            "carbon_leases": self._elections.run,
            "receipts": self.receipts.run,
            "fleet_loads": self._loads.run,
        }

    async def stand(self) -> None:
        """Wait until it is known by what places are had: before the first request may come."""
        if self._loads is not None:
            await self._loads.stand()

    def drain(self) -> None:
        """No more requests come: places are left to the others."""
        if self._loads is not None:
            self._loads.gateways.leaving = True

    async def leave(self) -> None:
        """The last request has ended."""
        if self._loads is not None:
            await self._loads.leave()

    async def close(self) -> None:
        """Send off what is left."""
        if self.receipts is not None:
            await self.receipts.close()

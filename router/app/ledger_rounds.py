"""What one gateway process does for its ledger in the background: joules of servers that wait, and
prices that came later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from router.app.energy_meters import MeterReader
from router.app.fleet_energy import EnergyRounds
from router.app.ledger import ProcessLedger
from router.app.ledger_settling import settle_rounds
from router.app.runtime import Runtime
from router.contract import Rng, StateStore
from router.telemetry.ledger import LedgerMetrics


class LedgerRounds:
    """Nothing where no ledger is kept."""

    def __init__(
        self,
        ledger: ProcessLedger,
        config_path: Path,
        runtime: Runtime,
        store: StateStore | None,
        identity: str,
        rng: Rng,
        metrics: LedgerMetrics,
        speaks: bool,
    ) -> None:
        """``identity``: of this process in the ``store``; ``speaks``: whether it does for its
        gateway what one of its workers does."""
        settings = runtime.config.settings.ledger
        self._energy: EnergyRounds | None = None
        if settings is not None and ledger.put_energy is not None:
            self._energy = EnergyRounds(
                settings, runtime, ledger.put_energy, speaks, store, identity
            )
        self._settling = None
        if speaks:
            self._settling = settle_rounds(
                settings, config_path, store, identity, runtime.clock, rng, metrics
            )
        if self._settling is not None:
            runtime.notes.append(self._settling.notes)

    def work(self, meter: MeterReader) -> dict[str, Callable[[], Awaitable[None]]]:
        """Background jobs by name."""
        energy, settling = self._energy, self._settling
        work: dict[str, Callable[[], Awaitable[None]]] = {}
        if energy is not None:
            work["energy"] = lambda: energy.run(meter)
            work["watts"] = lambda: energy.add_watts(meter)
        if settling is not None:
            work["settling"] = settling.run
        return work

    async def close(self, meter: MeterReader) -> None:
        """Tell the span that has begun; end a settlement under way."""
        if self._energy is not None:
            await self._energy.close(meter)
        if self._settling is not None:
            await self._settling.close()

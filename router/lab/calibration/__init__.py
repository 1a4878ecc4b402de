"""``carbon-router simulate --compare-live``: the simulation held against the real gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from router.lab.calibration.comparison import Comparison
from router.lab.calibration.report import render
from router.lab.calibration.run import compare_live
from router.lab.loopback.ending import conclude, open_console
from router.lab.sim.simulation import Simulation
from router.model import Policy

__all__ = ["Comparison", "compare_live", "render", "run"]

SECONDS: Final = 90.0
EXIT_CODES: Final = {"within": 0, "outside": 1, "inconclusive": 3}


def run(
    simulation: Simulation, policy: Policy, out: Path, seconds: float = SECONDS, seed: int = 0
) -> int:
    """Compare and print; an exit code: 0 within tolerance, 1 outside or failed, 3 when the machine
    or the number of requests allows no conclusion. Raises ConfigError and TraceError.
    """
    console = open_console()

    def tell(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    def work() -> int:
        comparison = compare_live(simulation, policy, out, seconds, seed, tell)
        console.print()
        console.print(render(comparison))
        console.print(f"Written: {out / 'comparison.json'}", highlight=False, soft_wrap=True)
        return EXIT_CODES[comparison.verdict]

    return conclude(work, console, "The comparison")

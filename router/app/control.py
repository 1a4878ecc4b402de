"""What the control API asks of the gateway, answered by the director and the runtime."""

from __future__ import annotations

from router.app.runtime import Runtime
from router.core.explanation import Explanation
from router.director import NO_PROMPT, Director, Prompt
from router.model import Decision, Fleet, Request
from router.telemetry.view import FleetView


class ControlApi:
    """Reads only; every answer is of the view in force."""

    def __init__(self, director: Director, runtime: Runtime) -> None:
        self._director = director
        self._runtime = runtime

    def decide(self, request: Request, prompt: Prompt = NO_PROMPT) -> Decision:
        """Raises RequestError and RefusedError leaves."""
        return self._director.decide(request, prompt)

    def explain(self, request: Request, prompt: Prompt = NO_PROMPT) -> Explanation:
        """Raises RequestError leaves."""
        return self._director.explain(request, prompt)

    def fleet(self) -> Fleet:
        """The fleet in force."""
        return self._runtime.config.fleet

    def view(self) -> FleetView | None:
        """What is known now."""
        return self._runtime.fleet()

    def version(self) -> int:
        """The snapshot's version."""
        return self._director.view.snapshot.version

    def regions(self, residency: frozenset[str]) -> int:
        """Bits of the regions of the fleet in force that lie in one of these jurisdictions."""
        return self._director.view.snapshot.layout.residency_mask(residency)

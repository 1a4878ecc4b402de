"""What the control API asks of the gateway, answered by the director and the runtime."""

from __future__ import annotations

from router.app.runtime import Runtime
from router.core.explanation import Explanation
from router.director import Director
from router.model import Decision, Fleet, Request
from router.telemetry.view import FleetView


class ControlApi:
    """Reads only; every answer is of the view in force."""

    def __init__(self, director: Director, runtime: Runtime) -> None:
        self._director = director
        self._runtime = runtime

    def decide(self, request: Request) -> Decision:
        """Raises RequestError and RefusedError leaves."""
        return self._director.decide(request)

    def explain(self, request: Request) -> Explanation:
        """Raises RequestError leaves."""
        return self._director.explain(request)

    def fleet(self) -> Fleet:
        """The fleet in force."""
        return self._runtime.config.fleet

    def view(self) -> FleetView | None:
        """What is known now."""
        return self._runtime.fleet()

    def version(self) -> int:
        """The snapshot's version."""
        return self._director.view.snapshot.version

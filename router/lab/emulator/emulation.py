"""One emulated endpoint behind whatever protocol: its models' machines, and the way to them.

One `Machine` per served model. A request waits half its round trip, runs on the machine, waits the
other half; faults make it late, cut it or lose it on the way.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, NoReturn

from router.lab.emulator.faults import EmulatedFault, FaultKind, parse_fault
from router.lab.emulator.guard import OPEN, EmulatorGuard
from router.lab.emulator.lag import LoopLag
from router.lab.emulator.machine import EmulatedRequest, Machine
from router.lab.emulator.work import Work
from router.lab.replay.lengths import LogNormal
from router.lab.replay.replica import Ended, Event
from router.model import Endpoint, Fleet, ServedModel, TaskProfile

VERSION: Final = "1"
ORIGIN_HEADER: Final = "x-origin"
# What answers that are no answer begin with: neither protobuf, JSON nor UTF-8.
GARBAGE: Final = b"\xff\xff\xff\xff emulated garbage"
# How long a busy server asks its caller to wait.
PUSHBACK_MS: Final = 200


class EmulatedModel:
    """One model on this endpoint: its machine and its length distribution."""

    def __init__(self, served: ServedModel, fleet: Fleet, loop: asyncio.AbstractEventLoop) -> None:
        self.name = served.name
        self.version = served.version or VERSION
        self.any_version = not served.version
        self.profile = served.profile
        self.context_tokens = served.context_tokens
        self.machine = Machine(served.profile, loop)
        prior = fleet.priors.get(served.name)
        self.lengths = LogNormal.of(prior) if prior is not None else None

    def output_tokens(self, work: Work, rng: random.Random) -> float:
        """What was asked for, else min(max_tokens, a draw from the prior).

        Raises ValueError where there is neither.
        """
        if isinstance(self.profile, TaskProfile):
            return 1.0
        if not math.isnan(work.output_tokens):
            return work.output_tokens
        if self.lengths is None:
            raise ValueError("give the parameter output_tokens: the model has no length prior")
        return float(self.lengths.draw(rng, work.max_tokens))


class Passage:
    """One request on its machine, as its caller sees it. ``output_tokens``: what it will make."""

    def __init__(
        self,
        run: EmulatedRequest,
        output_tokens: float,
        admitted_at: float,
        half_rtt_s: float,
        fault: EmulatedFault | None,
        crash: Callable[[], None],
    ) -> None:
        """``admitted_at``: loop seconds. ``crash``: drops every connection of the endpoint."""
        self.output_tokens = output_tokens
        self._run = run
        self._admitted_at = admitted_at
        self._half_rtt_s = half_rtt_s
        self._fault = fault.kind if fault is not None else None
        self._slower = fault.factor if fault is not None else 1.0
        self._crash = crash

    async def accepted(self) -> None:
        """Wait until word that it was admitted is with the caller."""
        await until(self._admitted_at + self._half_rtt_s)

    async def ended(self) -> Ended:
        """The end of its work, once word of it is with the caller."""
        record = await self._run.ended()
        await until(self._due(record))
        if self._fault is FaultKind.RESET:
            await self._reset()
        return record

    async def next(self) -> Event | None:
        """What comes next, once it is with the caller; None where a fault cuts it off."""
        event = await self._run.next()
        if self._fault in (FaultKind.HALF, FaultKind.RESET) and (
            isinstance(event, Ended) or event.made > self.output_tokens / 2.0
        ):
            self._run.cancel()
            if self._fault is FaultKind.RESET:
                await self._reset()
            return None
        await until(self._due(event))
        return event

    def _due(self, event: Event) -> float:
        """When the caller has an event, loop seconds: later by the factor of a slow fault."""
        made_at = self._admitted_at + (event.at - self._admitted_at) * self._slower
        return made_at + self._half_rtt_s

    async def _reset(self) -> NoReturn:
        """Have every connection dropped; this call goes down with its own."""
        self._crash()
        await hang()


class Emulation:
    """What one endpoint does with requests, whichever protocol they come by.

    ``stream_every``: tokens per streamed piece. ``fault``: shown by every call, unless a call
    names its own in ``x-emulate-fault``. ``on_reset``: called when a reset fault wants every
    connection dropped. ``tells_times``: answers of HTTP say where their time went. ``lag``: of the
    whole process, for whoever tells it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        fleet: Fleet,
        rng: random.Random,
        on_reset: Callable[[], None],
        *,
        stream_every: int = 1,
        fault: EmulatedFault | None = None,
        tells_times: bool = False,
        lag: LoopLag | None = None,
        guard: EmulatorGuard = OPEN,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.endpoint = endpoint
        self._rtt_ms = {origin: row[endpoint.region] for origin, row in fleet.rtt_ms.items()}
        self._default_origin = fleet.default_origin
        self._rng = rng
        self._on_reset = on_reset
        self._stream_every = stream_every
        self._fault = fault
        self.tells_times = tells_times
        self.lag = lag or LoopLag()
        self.guard = guard
        self.models = {model.name: EmulatedModel(model, fleet, loop) for model in endpoint.models}

    def find(self, name: str, version: str = "") -> EmulatedModel | None:
        """The model of this name; None where it, or that version of it, is not served."""
        model = self.models.get(name)
        if model is None or (version not in ("", model.version) and not model.any_version):
            return None
        return model

    def fault(self, text: str | None) -> EmulatedFault | None:
        """The fault that a call shows, which named ``text`` if any. Raises ValueError."""
        return self._fault if text is None else parse_fault(text)

    @asynccontextmanager
    async def passage(
        self,
        model: EmulatedModel,
        work: Work,
        origin: str | None,
        fault: EmulatedFault | None,
        *,
        streams: bool,
    ) -> AsyncIterator[Passage]:
        """Run a request; whoever leaves the block before its end frees its slot at once.

        Raises ValueError where its token counts are unusable.
        """
        half_rtt_s = self._half_rtt_s(origin)
        await asyncio.sleep(half_rtt_s)
        output_tokens = model.output_tokens(work, self._rng)
        run = model.machine.submit(
            work.input_tokens, output_tokens, self._pieces(work) if streams else 0, work.chain
        )
        admitted_at = model.machine.replica.now
        try:
            yield Passage(run, output_tokens, admitted_at, half_rtt_s, fault, self._on_reset)
        finally:
            run.cancel()

    def text(self, model: EmulatedModel, output_tokens: float) -> str:
        """What an answer says: that it is emulated."""
        return (
            f"[emulated by {self.endpoint.name}: {output_tokens:g} units of {model.profile.name}]"
        )

    def stop(self) -> None:
        """Drop everything that runs."""
        for model in self.models.values():
            model.machine.stop()

    def _pieces(self, work: Work) -> int:
        """Tokens per streamed piece."""
        if math.isnan(work.stream_every):
            return self._stream_every
        every = int(min(work.stream_every, 1e6))
        if every < 1:
            raise ValueError(f"stream_every must be at least 1 token, got {work.stream_every:g}")
        return every

    def _half_rtt_s(self, origin: str | None) -> float:
        rtt_ms = self._rtt_ms.get(origin or self._default_origin)
        if rtt_ms is None:
            rtt_ms = self._rtt_ms.get(self._default_origin, 0.0)
        return rtt_ms / 2e3


class Listening(NamedTuple):
    """A server that takes requests. ``stop``: drops every connection and frees the port."""

    port: int
    stop: Callable[[], Awaitable[None]]


async def hang() -> NoReturn:
    """Wait until cancelled."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable: nobody sets the event")


async def until(when: float) -> None:
    """Sleep up to a time of the loop's clock."""
    delay_s = when - asyncio.get_running_loop().time()
    if delay_s > 0.0:
        await asyncio.sleep(delay_s)

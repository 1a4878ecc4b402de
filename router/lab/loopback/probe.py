"""What the loopback itself adds to a first token: asked of the emulated servers, past the gateway.

A probe is a short request of a known emulated time: round trip, and prefill of one token by the
profile. What it takes beyond that is the machine's: sockets, gRPC, late timers. The gateway meets
the same on its way to the servers, in the field as here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import grpc
import grpc.aio

from router.lab.loopback.client import (
    METHOD_STREAM,
    StreamFailedError,
    first_token_at,
    metadata_of,
    payload_of,
)
from router.lab.replay.timed import TimedRequest
from router.model import Endpoint, Fleet, Request, ServedModel, TokenProfile

EVERY_S = 0.25
_TIMEOUT_S = 5.0
_STREAM_EVERY = 1_000_000
_OUTPUT_TOKENS = 2


class PathProbe:
    """Probes one endpoint after the other. ``added_ms``: what each probe took too long."""

    def __init__(self, fleet: Fleet, origins: Sequence[str]) -> None:
        """``origins``: whose round trips count, in turn."""
        self._fleet = fleet
        self._origins = origins
        self._loop = asyncio.get_running_loop()
        self.added_ms: list[float] = []

    async def run(self) -> None:
        """Probe until cancelled; ends at once where no endpoint has a model of tokens."""
        places = [
            (endpoint, served)
            for endpoint in self._fleet.endpoints
            for served in endpoint.models
            if isinstance(served.profile, TokenProfile)
        ]
        if not places or not self._origins:
            return
        channels: dict[str, grpc.aio.Channel] = {}
        try:
            for (endpoint, served), origin in zip(
                cycle(places), cycle(self._origins), strict=False
            ):
                if endpoint.name not in channels:
                    channels[endpoint.name] = grpc.aio.insecure_channel(endpoint.address)
                await asyncio.sleep(EVERY_S)
                await self._one(channels[endpoint.name], endpoint, served, origin)
        finally:
            for channel in channels.values():
                await channel.close()

    async def _one(
        self, channel: grpc.aio.Channel, endpoint: Endpoint, served: ServedModel, origin: str
    ) -> None:
        profile = served.profile
        assert isinstance(profile, TokenProfile)
        request = Request(served.name, served.version, "probe", origin=origin, input_tokens=1.0)
        timed = TimedRequest(0.0, request, _OUTPUT_TOKENS, served.name, streamed=True)
        # The first call on a channel opens its connection, which no request of the run waits for.
        await channel.channel_ready()
        began = self._loop.time()
        method: Any = channel.stream_stream(METHOD_STREAM)
        call = method(
            iter((payload_of(timed, _STREAM_EVERY),)),
            metadata=metadata_of(timed),
            timeout=_TIMEOUT_S,
        )
        try:
            took_ms = (await first_token_at(call, self._loop) - began) * 1e3
        except (grpc.aio.AioRpcError, StreamFailedError):
            return
        known_ms = self._fleet.rtt_ms[origin][endpoint.region]
        known_ms += profile.lone_ttft_ms(1.0)
        self.added_ms.append(took_ms - known_ms)

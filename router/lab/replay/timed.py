"""Timed requests: Poisson arrivals per origin with the shape of a day, lengths from priors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from router.contract import Rng
from router.lab.replay.lengths import LogNormal
from router.model import Budget, LengthPrior, Request
from router.units import HOUR_S

PEAK_LOCAL_H = 15.0
SWING = 0.6


class TimedRequest(NamedTuple):
    """``at_s``: arrival, wall seconds after the start. ``output_tokens``: what it will take.

    ``request`` is what a router may see of it; ``label`` names its traffic class. ``streamed``:
    answered token by token, so that its TTFT shows.
    """

    at_s: float
    request: Request
    output_tokens: int
    label: str
    streamed: bool


@dataclass(frozen=True, slots=True)
class OriginDemand:
    """Where requests come from: share of all requests, and the local time that shapes its day."""

    name: str
    utc_offset_h: float
    share: float


@dataclass(frozen=True, slots=True)
class TrafficClass:
    """A kind of request: share of all requests, its budget and its limit on output tokens."""

    label: str
    model: str
    share: float
    budget: Budget
    max_output_tokens: int
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Period:
    """Wall ``seconds`` in which the carbon clock runs from ``carbon_start`` at ``speed``."""

    seconds: float
    carbon_start: float
    speed: float

    def carbon_time(self, at_s: float) -> float:
        """Unix seconds of the carbon clock, ``at_s`` wall seconds after the start."""
        return self.carbon_start + at_s * self.speed

    def boundaries(self) -> list[float]:
        """Wall seconds at which an hour of the carbon clock ends, and the end of the period."""
        hour_s = HOUR_S / self.speed
        first_s = (HOUR_S - self.carbon_start % HOUR_S) / self.speed
        hours = math.ceil((self.seconds - first_s) / hour_s - 1e-9)
        return [*(first_s + hour_s * hour for hour in range(hours)), self.seconds]


def day_shape(local_hour: float) -> float:
    """Demand relative to the day's mean: a sinusoid, low at 3 h, high at 15 h local time."""
    return 1.0 + SWING * math.cos((local_hour - PEAK_LOCAL_H) * math.tau / 24.0)


def generate(
    origins: Sequence[OriginDemand],
    classes: Sequence[TrafficClass],
    priors: Mapping[str, LengthPrior],
    period: Period,
    mean_rps: float,
    rng: Rng,
) -> list[TimedRequest]:
    """Requests in order of arrival, ``mean_rps`` per wall second over a whole day.

    Output lengths are drawn from each model's prior and capped by the class; so are input
    lengths, around the prior's mean. The same rng state gives the same list.
    """
    lengths = {name: LogNormal.of(prior) for name, prior in priors.items()}
    found: list[TimedRequest] = []
    for origin in origins:
        ceiling_rps = mean_rps * origin.share * (1.0 + SWING)
        at_s = _gap_s(rng, ceiling_rps)
        while at_s < period.seconds:
            local_hour = period.carbon_time(at_s) / HOUR_S + origin.utc_offset_h
            if rng.random() * (1.0 + SWING) < day_shape(local_hour):
                found.append(_request(at_s, origin, classes, priors, lengths, rng))
            at_s += _gap_s(rng, ceiling_rps)
    found.sort(key=lambda timed: timed.at_s)
    return [
        timed._replace(request=timed.request._replace(request_id=f"r{index}"))
        for index, timed in enumerate(found)
    ]


def _gap_s(rng: Rng, rate: float) -> float:
    return -math.log(1.0 - rng.random()) / rate


def _request(
    at_s: float,
    origin: OriginDemand,
    classes: Sequence[TrafficClass],
    priors: Mapping[str, LengthPrior],
    lengths: Mapping[str, LogNormal],
    rng: Rng,
) -> TimedRequest:
    point = rng.random() * sum(traffic.share for traffic in classes)
    for traffic in classes:
        point -= traffic.share
        if point < 0.0:
            break
    output_tokens = lengths[traffic.model].draw(rng, traffic.max_output_tokens)
    input_tokens = round(priors[traffic.model].input_tokens * (0.5 + rng.random()))
    request = Request(
        model=traffic.model,
        origin=origin.name,
        budget=traffic.budget,
        input_tokens=float(max(1, input_tokens)),
        max_output_tokens=float(traffic.max_output_tokens),
    )
    return TimedRequest(at_s, request, output_tokens, traffic.label, traffic.streamed)

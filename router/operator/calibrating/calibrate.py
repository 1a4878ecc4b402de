"""``carbon-router calibrate``: an endpoint's readings, live or recorded, to a profile."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from router.app.compose import build_clock
from router.app.loading import load
from router.app.trust import Trust
from router.clock import WallClock
from router.config.problems import unknown
from router.config.settings import Config
from router.errors import ConfigError, DataError
from router.load.calibration.fit import CalibrationFit
from router.load.calibration.lag import fit_lagged
from router.load.calibration.live import ReadingTimes, read_live
from router.load.calibration.profile_text import ProfileFacts, profile_yaml
from router.load.calibration.series import EnergyReading, WorkSeries
from router.load.energy_meter import MeterReading
from router.load.scraper import PrometheusLoad, open_session
from router.load.work_counters import WORK
from router.model import Endpoint, EnergyMeter, Profile
from router.operator.calibrating.nvml import NvmlMeter
from router.operator.calibrating.recorded import read_recorded


@dataclass(frozen=True, slots=True)
class CalibrationQuestion:
    """What is asked. ``recorded``: None to read the endpoint as it runs, as ``times`` say;
    ``gpus``: of this machine, read by NVML instead of the endpoint's meter."""

    config: Path
    endpoint: str
    times: ReadingTimes
    recorded: Path | None = None
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Calibration:
    """``lag_s``: of the meter behind the server; ``former``: the endpoint's profile by now;
    ``profile``: the new one, as YAML."""

    fit: CalibrationFit
    series: WorkSeries
    lag_s: float
    facts: ProfileFacts
    former: Profile
    profile: str


def calibrate(question: CalibrationQuestion) -> Calibration:
    """Raises ConfigError, TraceError and DataError: what is wrong, or cannot be told."""
    config = load(question.config)
    endpoint, meter = _endpoint(config, question)
    if question.recorded is not None:
        readings = read_recorded(question.recorded, endpoint.engine, meter)
        epoch = 0.0
    else:
        clock = WallClock()
        # Read by the monotonic clock; told by the wall.
        epoch = clock.now() - clock.monotonic()
        readings = asyncio.run(_live(config, endpoint, question, clock))
    found, series, lag_s = fit_lagged(readings, least_s=2.0 * question.times.every_s)
    facts = ProfileFacts(
        endpoint.name,
        endpoint.engine,
        meter,
        series.by_watts,
        _utc(series.begun_at + epoch),
        _utc(series.ended_at + epoch),
    )
    former = endpoint.models[0].profile
    profile = profile_yaml(former, found, facts)
    return Calibration(found, series, lag_s, facts, former, profile)


async def _live(
    config: Config, endpoint: Endpoint, question: CalibrationQuestion, clock: WallClock
) -> list[EnergyReading]:
    trust = Trust(config, build_clock(None), os.environ)
    async with open_session() as session:
        source = PrometheusLoad(session, config.settings.load.timeout_ms / 1e3, access=trust.access)
        if question.gpus:
            nvml = NvmlMeter(question.gpus)

            async def read() -> MeterReading:
                return await asyncio.to_thread(nvml.reading)

        else:

            async def read() -> MeterReading:
                return await source.meter(endpoint)

        return await read_live(endpoint, source, read, question.times, clock)


def _endpoint(config: Config, question: CalibrationQuestion) -> tuple[Endpoint, EnergyMeter]:
    """The endpoint, and what counts its joules."""
    endpoints = {one.name: one for one in config.fleet.endpoints}
    endpoint = endpoints.get(question.endpoint)
    if endpoint is None:
        text = unknown("endpoint", question.endpoint, endpoints)
        raise ConfigError("--endpoint", [("", text)])
    at = f"endpoints {endpoint.name}"
    if endpoint.engine not in WORK:
        text = f"counters of {endpoint.engine or 'no engine'} are not known; metrics.engine: one of"
        raise ConfigError(str(config.file), [(at, f"{text} {', '.join(sorted(WORK))}")])
    if len(endpoint.models) > 1:
        text = f"serves {len(endpoint.models)} models, whose joules one meter cannot tell apart"
        raise DataError(f"{endpoint.name} {text}")
    meter = EnergyMeter("", "nvml") if question.gpus else endpoint.meter
    if meter is None:
        raise ConfigError(str(config.file), [(at, "has no meter; name one under meter")])
    return endpoint, meter


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")

"""The command about one endpoint's profile: calibrate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from router.cli.options import AsJson, ConfigPath, show

app = typer.Typer()


@app.command()
def calibrate(
    config: ConfigPath,
    endpoint: Annotated[str, typer.Argument(help="Its name in the file.")],
    seconds: Annotated[float, typer.Option(min=10, help="Read it for so long.")] = 900.0,
    every: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between readings.")] = 2.0,
    recorded: Annotated[
        Path | None,
        typer.Option(help="Readings instead: CSV, Parquet, or a folder of metrics pages."),
    ] = None,
    nvml: Annotated[
        list[int] | None,
        typer.Option(help="Read this machine's GPU instead of the meter; its number, repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the profile into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit an endpoint's profile to its energy meter and its server's counters; sends nothing."""
    from router.load.calibration.live import ReadingTimes
    from router.operator.calibrating.calibrate import CalibrationQuestion
    from router.operator.calibrating.calibrate import calibrate as calibrated
    from router.operator.show.calibration import calibration_json, render_calibration

    if recorded is None:
        print(f"reading {endpoint} every {every:g} s for {seconds:g} s ...", file=sys.stderr)
    times = ReadingTimes(seconds, every)
    found = calibrated(CalibrationQuestion(config, endpoint, times, recorded, tuple(nvml or ())))
    if out is not None:
        out.write_text(found.profile, encoding="utf-8")
    if as_json:
        print(calibration_json(found))
        return
    show(render_calibration(found))
    if out is None:
        print(found.profile, end="")

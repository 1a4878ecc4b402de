"""``carbon-router calibrate``: figures and their intervals, beside the profile that is in force."""

from __future__ import annotations

import json
import math
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from router.load.calibration.profile_text import former_value
from router.operator.calibrating.calibrate import Calibration
from router.operator.show.caller_names import shown_line


def render_calibration(found: Calibration) -> RenderableType:
    """A row a figure, and what is not known with the reason."""
    fit, facts = found.fit, found.facts
    covers = "GPU and host" if facts.meter.covers_host else "GPUs alone"
    table = Table("figure", "", "measured", "95 %", found.former.name, "differs")
    for one in fit.figures:
        if not one.why_not:
            was = former_value(found.former, one.key, facts.meter)
            table.add_row(
                one.key or "-",
                f"{one.name}, {one.unit}",
                f"{one.value:.4g}",
                f"{one.low:.4g} to {one.high:.4g}",
                "" if math.isnan(was) else f"{was:.4g}",
                "" if not was > 0.0 else f"{100.0 * (one.value / was - 1.0):+.0f} %",
            )
    how = "watts added up: an estimate" if facts.by_watts else "joules"
    lines = [
        f"{facts.endpoint}: {facts.meter.kind} ({covers}, {how}) against {facts.engine}, "
        f"{facts.since} to {facts.until}: {fit.spans} spans, {fit.seconds:.0f} s, "
        f"{fit.mean_w:.4g} W on the mean; r2 {fit.r2:.4f}, {fit.outliers} spans set aside"
        + (f"; the meter is {found.lag_s:.3g} s late" if found.lag_s else ""),
        *(f"not known: {one.key or one.name}: {one.why_not}" for one in fit.figures if one.why_not),
        *(f"left out {count} times: {why}" for why, count in sorted(found.series.dropped.items())),
    ]
    return Group(table, *(shown_line(line) for line in lines))


def calibration_json(found: Calibration) -> str:
    """The same, for programs."""
    fit, facts = found.fit, found.facts
    figures: list[dict[str, Any]] = []
    for one in fit.figures:
        told: dict[str, Any] = {"key": one.key or None, "name": one.name, "unit": one.unit}
        if one.why_not:
            told["why_not"] = one.why_not
        else:
            was = former_value(found.former, one.key, facts.meter)
            told |= {"value": one.value, "low": one.low, "high": one.high}
            told["former"] = None if math.isnan(was) else was
        figures.append(told)
    return json.dumps(
        {
            "endpoint": facts.endpoint,
            "engine": facts.engine,
            "meter": facts.meter.kind,
            "covers_host": facts.meter.covers_host,
            "by_watts": facts.by_watts,
            "since": facts.since,
            "until": facts.until,
            "spans": fit.spans,
            "seconds": fit.seconds,
            "mean_w": fit.mean_w,
            "r2": None if math.isnan(fit.r2) else fit.r2,
            "time_r2": None if math.isnan(fit.time_r2) else fit.time_r2,
            "outliers": fit.outliers,
            "lag_s": found.lag_s,
            "dropped": dict(found.series.dropped),
            "figures": figures,
            "profile": found.profile,
        },
        indent=2,
    )

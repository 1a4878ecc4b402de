"""A report as a manifest of the Green Software Foundation's Impact Framework.

One child a group and grid zone, one input an hour. Energy is all that a facility drew for it. The
score of a row is grams over tokens of that hour: rows are never summed, carbon and counts are.

Callers make up names, and all children have to be of the same hours: groups of which nothing was
answered are one child a grid zone, so that such names cost nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from router.ledger.month import hour_text
from router.operator.reporting.gather import GroupSums, Report
from router.units import HOUR_S

_SUM: Final = {"time": "sum", "component": "sum"}
_MEAN: Final = {"time": "avg", "component": "avg"}
# By libyaml a tenth of the time. The two differ in names beyond Unicode's first plane alone.
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def manifest(report: Report) -> str:
    """As YAML. Hours without an intensity are left out, and the description says how much."""
    left_out = report.total.energy("unpriced_q").kwh
    told: str = yaml.dump(
        {
            "name": f"carbon-router-{report.month}",
            "description": (
                f"{report.month}, location-based average intensities; {left_out:.6g} kWh without "
                "an intensity are not in it"
            ),
            "tags": None,
            "initialize": {"plugins": _plugins()},
            "aggregation": {"metrics": ["energy", "carbon", "requests"], "type": "both"},
            "tree": {"children": _children(report)},
        },
        Dumper=_DUMPER,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return told


def _plugins() -> Mapping[str, Any]:
    def parameter(unit: str, what: str, how: Mapping[str, str]) -> Mapping[str, Any]:
        return {"unit": unit, "description": what, "aggregation-method": dict(how)}

    return {
        "operational-carbon": {
            "path": "builtin",
            "method": "Multiply",
            "config": {
                "input-parameters": ["energy", "grid/carbon-intensity"],
                "output-parameter": "carbon-operational",
            },
            "parameter-metadata": {
                "inputs": {
                    "energy": parameter("kWh", "of the facility", _SUM),
                    "grid/carbon-intensity": parameter("gCO2eq/kWh", "location-based", _MEAN),
                },
                "outputs": {"carbon-operational": parameter("gCO2eq", "operational carbon", _SUM)},
            },
        },
        "total": {
            "path": "builtin",
            "method": "Sum",
            "config": {
                "input-parameters": ["carbon-operational", "carbon-embodied"],
                "output-parameter": "carbon",
            },
            "parameter-metadata": {
                "inputs": {
                    "carbon-operational": parameter("gCO2eq", "operational carbon", _SUM),
                    "carbon-embodied": parameter("gCO2eq", "embodied carbon", _SUM),
                },
                "outputs": {"carbon": parameter("gCO2eq", "operational and embodied", _SUM)},
            },
        },
        "sci": {
            "path": "builtin",
            "method": "Sci",
            "config": {"functional-unit": "requests"},
            "parameter-metadata": {
                "inputs": {"requests": parameter("requests", "answered", _SUM)},
                "outputs": {"sci": parameter("gCO2eq/request", "of the hour", _MEAN)},
            },
        },
    }


def _children(report: Report) -> dict[str, Any]:
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for (name, hour), figures in _summed(report).items():
        row = _input(hour, figures)
        if row is not None:
            rows.setdefault(name, {})[hour] = row
    hours = sorted({hour for known in rows.values() for hour in known})
    children: dict[str, Any] = {}
    for name, known in sorted(rows.items()):
        # Children are summed row by row: all of them have to be of the same hours.
        inputs = [known.get(hour) or _nothing(hour) for hour in hours]
        compute = ["operational-carbon", "total"]
        if all(row["requests"] for row in inputs):
            # Nothing is answered in an hour that only stood idle: it has no score.
            compute.append("sci")
        children[name] = {"pipeline": {"compute": compute}, "inputs": inputs}
    return children


def _summed(report: Report) -> dict[tuple[str, int], GroupSums]:
    """By child's name and hour. Two groups of one name are added up, as are those without an
    answer."""
    answered = {one.group for one in report.groups if one.count("answered")}
    found: dict[tuple[str, int], GroupSums] = {}
    for one in report.group_hours:
        group, zone = one.figures.group, one.grid_zone or "none"
        # No group is called so: theirs end in a slash and the grid zone.
        name = f"{group or 'none'}/{zone}" if group in answered else f"nothing answered, {zone}"
        before = found.get((name, one.hour))
        found[name, one.hour] = one.figures if before is None else before.plus(one.figures)
    return found


def _nothing(hour: int) -> dict[str, Any]:
    return _row(hour, 0.0, 0.0, 0.0, 0)


def _row(
    hour: int, kwh: float, g_per_kwh: float, embodied_g: float, requests: int
) -> dict[str, Any]:
    return {
        "timestamp": hour_text(hour),
        "duration": round(HOUR_S),
        "energy": kwh,
        "grid/carbon-intensity": g_per_kwh,
        "carbon-embodied": embodied_g,
        "requests": requests,
    }


def _input(hour: int, figures: GroupSums) -> dict[str, Any] | None:
    kwh = figures.energy("facility_q").kwh - figures.energy("unpriced_q").kwh
    embodied = figures.mass("embodied_g").g
    grams = figures.mass("operational_g").g
    if kwh <= 0.0 and not embodied:
        return None
    kwh = max(kwh, 0.0)
    g_per_kwh = grams / kwh if kwh > 0.0 else 0.0
    return _row(hour, kwh, g_per_kwh, embodied, figures.count("answered"))

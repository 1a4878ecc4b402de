"""A report's pictures over time: where traffic went, grams by the hour, how full replicas were.

Each returns an `svg` drawing.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.lab.study.execute import Study
from router.lab.study.report.svg import INNER, LEFT, WIDTH, Frame, drawing, linear, ticks
from router.lab.study.report.units import figure, grams
from router.units import HOUR_S

_MOST_BUCKETS: Final = 360
_MOST_REGIONS: Final = 7
_TICK_MINUTES: Final = (1, 2, 5, 10, 15, 30)
_TICK_HOURS: Final = (
    *(minutes / 60.0 for minutes in _TICK_MINUTES),
    *(1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 744, 1488),
)
_MOST_ROWS: Final = 80
_LEVELS: Final = 12


# Bounds of the classes of intensity that stand in for regions where there are too many, g/kWh.
CLASSES_G_PER_KWH: Final = (50.0, 100.0, 200.0, 350.0, 500.0)


class RegionLegend(NamedTuple):
    """Regions that have a colour, from the cleanest grid to the dirtiest; the rest is "other"."""

    names: tuple[str, ...]
    rest: tuple[str, ...]


def region_legend(study: Study) -> RegionLegend:
    """The ones that most traffic goes to, over all policies."""
    totals = sum(run.result.hourly_requests.sum(axis=0) for run in study.runs)
    names = list(study.simulation.fleet.regions)
    by_traffic = sorted(range(len(names)), key=lambda at: -float(np.asarray(totals)[at]))
    spare = 0 if len(names) <= _MOST_REGIONS + 1 else len(names) - _MOST_REGIONS
    chosen = by_traffic[: len(names) - spare]
    means = {name: float(_intensity(study, name).mean()) for name in names}
    order = sorted((names[at] for at in chosen), key=lambda name: means[name])
    return RegionLegend(tuple(order), tuple(name for name in names if name not in order))


def traffic(study: Study, place: int) -> str:
    """Requests/s by region, stacked, above the intensity of each grid zone; then the other
    policies, small, on the same hours.
    """
    regions = region_legend(study)
    edges = _hour_edges(study)
    span = linear(0.0, study.simulation.duration_s / HOUR_S)
    stacks = [_stacked(study, at, edges, regions) for at in range(len(study.runs))]
    highest = max(float(stack[-1].max()) for _, stack in stacks) * 1.05 or 1.0
    frames = []
    top = Frame(LEFT, 30, INNER, 210, span, linear(0.0, highest))
    top.y_axis([(v, figure(v)) for v in ticks(0.0, highest, 4)],
               f"requests/s under {study.policies[place].name} ")  # fmt: skip
    top.x_axis(_clock(study))
    _bands(top, *stacks[place], regions)
    grid = _grid_lines(study, edges, regions, span, 290.0)
    frames += [top, grid]
    at_y = 530.0
    for other in [at for at in range(len(study.runs)) if at != place]:
        small = Frame(LEFT, at_y, INNER, 52, span, linear(0.0, highest))
        small.y_axis([], f"the same requests under {study.policies[other].name}")
        _bands(small, *stacks[other], regions)
        small.line((LEFT, at_y + 52), (LEFT + INNER, at_y + 52), "axis")
        frames.append(small)
        at_y += 84.0
    label = "Requests per second by region over time, above the carbon intensity of each grid zone"
    return drawing(at_y - 20.0, frames, label)


def _grid_lines(study: Study, edges: Any, regions: RegionLegend, span: Any, top: float) -> Frame:
    every = [*regions.names, *regions.rest]
    highest = max(float(_intensity(study, name).max()) for name in every) * 1.05
    frame = Frame(LEFT, top, INNER, 170, span, linear(0.0, highest))
    frame.x_axis(_clock(study), "UTC")
    frame.y_axis([(v, figure(v)) for v in ticks(0.0, highest, 4)],
                 "gCO2e/kWh of each region's grid zone, as it was")  # fmt: skip
    for name in (*regions.rest, *regions.names):
        values = _intensity(study, name)
        hours = _intensity_edges(study, len(values))
        hours, values = _rebinned(hours, values[:, None], mean=True)
        at = regions.names.index(name) if name in regions.names else -1
        zone = study.simulation.fleet.regions[name].grid_zone
        style = f"line r{at}" if at >= 0 else "line thin rest"
        frame.steps(hours, values[:, 0], style, f"{name} ({zone})")
    return frame


def _bands(frame: Frame, edges: Any, stack: Any, regions: RegionLegend) -> None:
    low = np.zeros(len(edges) - 1)
    for at, high in enumerate(stack):
        known = at < len(regions.names)
        name = regions.names[at] if known else f"{len(regions.rest)} other regions"
        style = f"area r{at}" if known else "area rest"
        if regions.rest:
            name, style = class_name(at), f"area g{at}"
        if (high > low).any():
            frame.band(edges, low, high, style, name)
        low = high


def class_name(at: int) -> str:
    """Of a class of intensity."""
    bounds = CLASSES_G_PER_KWH
    if at == 0:
        return f"under {bounds[0]:g} g/kWh"
    if at == len(bounds):
        return f"{bounds[-1]:g} g/kWh and more"
    return f"{bounds[at - 1]:g} to {bounds[at]:g} g/kWh"


def _stacked(study: Study, place: int, edges: Any, regions: RegionLegend) -> tuple[Any, Any]:
    """Edges in hours; running totals in requests/s, shape (regions or classes, buckets)."""
    result = study.runs[place].result
    at = {name: i for i, name in enumerate(result.regions)}
    counts = result.hourly_requests.astype(np.float64)
    if regions.rest:
        columns = _by_class(study, counts)
    else:
        columns = [counts[:, at[name]] for name in regions.names]
    hours, sums = _rebinned(edges, np.array(columns).T, mean=False)
    rates = sums / np.maximum(np.diff(hours), 1e-9)[:, None] / HOUR_S
    return hours, np.cumsum(rates, axis=1).T


def _by_class(study: Study, counts: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Requests by hour, for each class of what the grid emitted in that hour."""
    names = study.simulation.fleet.regions
    g_per_kwh = np.array([_intensity(study, name) for name in names]).T
    rows = np.minimum(np.arange(len(counts)), len(g_per_kwh) - 1)
    classes = np.digitize(g_per_kwh[rows], CLASSES_G_PER_KWH)
    return [
        np.where(classes == one, counts, 0.0).sum(axis=1)
        for one in range(len(CLASSES_G_PER_KWH) + 1)
    ]


def _rebinned(
    edges: NDArray[np.float64], values: NDArray[np.float64], *, mean: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Neighbouring spans put together, so that no chart has more than it can show."""
    factor = math.ceil(len(values) / _MOST_BUCKETS)
    if factor <= 1:
        return edges, values
    firsts = np.arange(0, len(values), factor)
    sums = np.add.reduceat(values, firsts, axis=0)
    if mean:
        sums = sums / np.diff(np.append(firsts, len(values)))[:, None]
    return np.append(edges[firsts], edges[-1]), sums


def _hour_edges(study: Study) -> NDArray[np.float64]:
    """Of `Outcome.hourly_requests`, hours since the start, inside the scenario."""
    simulation = study.simulation
    count = len(study.runs[0].result.hourly_requests)
    edges = np.arange(count + 1) - simulation.start % HOUR_S / HOUR_S
    return np.clip(edges, 0.0, simulation.duration_s / HOUR_S)


def _intensity(study: Study, region: str) -> NDArray[np.float64]:
    actual = study.simulation.actual
    zone = study.simulation.fleet.regions[region].grid_zone
    return actual.g_per_kwh[:, actual.grid_zones.index(zone)]


def _intensity_edges(study: Study, count: int) -> NDArray[np.float64]:
    actual, simulation = study.simulation.actual, study.simulation
    edges = (actual.start - simulation.start + actual.step_s * np.arange(count + 1)) / HOUR_S
    return np.clip(edges, 0.0, simulation.duration_s / HOUR_S)


def _clock(study: Study) -> list[tuple[float, str]]:
    """Hours since the start, and the UTC time or day there."""
    simulation = study.simulation
    hours = simulation.duration_s / HOUR_S
    step = next((s for s in _TICK_HOURS if hours / s <= 10.0), _TICK_HOURS[-1])
    offset = simulation.start / HOUR_S
    tick = math.ceil(offset / step - 1e-9)
    found: list[tuple[float, str]] = []
    while (at := tick * step) - offset <= hours + 1e-9:
        when = datetime.fromtimestamp(round(at * HOUR_S), UTC)
        first = not found or (when.hour == 0 and when.minute == 0)
        text = (
            f"{when:%d %b}" if step >= 24 else f"{when:%d %b %H:%M}" if first else f"{when:%H:%M}"
        )
        found.append((at - offset, text))
        tick += 1
    return found


def occupancy(study: Study, place: int) -> str:
    """Every replica's mean batch over time, as a share of what it may hold."""
    run = study.runs[place]
    endpoints = study.simulation.fleet.endpoints
    codes = run.occupancy.endpoints
    if not len(codes):
        return ""
    batch = run.occupancy.batch()
    order = _by_region(study, codes)
    shares: list[NDArray[np.float64]] = []
    labels = []
    for region, columns in order:
        caps = np.array([endpoints[int(codes[c])].max_in_flight for c in columns], np.float64)
        part = batch[:, columns] / caps
        if len(codes) > _MOST_ROWS:
            part = np.asarray(np.nanmean(part, axis=1))[:, None]
        labels.append((region, len(shares), part.shape[1]))
        shares += list(part.T)
    height = min(16.0, max(6.0, 420.0 / len(shares)))
    hours = study.simulation.duration_s / HOUR_S
    gaps = 3.0 * len(labels)
    frame = Frame(180, 20, WIDTH - 200, height * len(shares) + gaps, linear(0.0, hours),
                  linear(0, 1))  # fmt: skip
    span_h = run.occupancy.span_s / HOUR_S
    for group, (region, first, count) in enumerate(labels):
        top = frame.top + height * first + 3.0 * group
        frame.text(172, top + height * count / 2 + 4, region, "note end")
        for row in range(count):
            _strip(frame, top + height * row, height, span_h, hours, shares[first + row])
    frame.x_axis(_clock(study))
    return drawing(frame.height + 56.0, [frame], "Occupancy of every replica over time")


def _by_region(study: Study, codes: Any) -> list[tuple[str, list[int]]]:
    """(region, columns), the cleanest grid first."""
    endpoints = study.simulation.fleet.endpoints
    found: dict[str, list[int]] = {}
    for column, code in enumerate(codes.tolist()):
        found.setdefault(endpoints[code].region, []).append(column)
    return sorted(found.items(), key=lambda one: float(_intensity(study, one[0]).mean()))


def _strip(
    frame: Frame, top: float, height: float, span_h: float, hours: float, shares: Any
) -> None:
    """One replica: neighbouring spans of the same level are one rectangle."""
    levels = np.where(np.isnan(shares), -1, np.ceil(np.clip(shares, 0.0, 1.0) * _LEVELS))
    first = 0
    for at in range(1, len(levels) + 1):
        if at < len(levels) and levels[at] == levels[first]:
            continue
        if levels[first] >= 0:
            left, right = frame.x(first * span_h), frame.x(min(at * span_h, hours))
            frame.rect(left, top, right - left, height - 1.0, f"heat h{int(levels[first])}")
        first = at


def hourly_grams(study: Study) -> str:
    """Grams of replicas with work, hour by hour, beside the bound's."""
    edges = _hour_edges(study)
    count = len(edges) - 1
    bound_h = np.zeros(count)
    offset = study.simulation.start % HOUR_S
    limit = study.bounds[0]
    places = ((limit.slot_start_s + offset) // HOUR_S).astype(np.int64)
    np.add.at(bound_h, np.minimum(places, count - 1), limit.slot_g)
    series = []
    for run in study.runs:
        values = np.zeros(count)
        hours = [hour.busy_g for hour in run.result.fleet_hours][:count]
        values[: len(hours)] = hours
        series.append(values)
    span = linear(0.0, study.simulation.duration_s / HOUR_S)
    # The first and the last hour may be cut: grams an hour all the same.
    widths = np.where(np.diff(edges) > 0.0, np.diff(edges), np.inf)
    shown, rows = _rebinned(edges, (np.array([bound_h, *series]) / widths).T, mean=True)
    highest = float(rows.max(initial=0.0)) * 1.05 or 1.0
    frame = Frame(LEFT + 20, 30, INNER - 20, 220, span, linear(0.0, highest))
    frame.y_axis([(v, grams(v)) for v in ticks(0.0, highest, 4)],
                 "gCO2e an hour of replicas with work, and the bound")  # fmt: skip
    for place in reversed(range(len(series))):
        frame.steps(shown, rows[:, place + 1], f"line p{place % 8}", study.policies[place].name)
    frame.steps(shown, rows[:, 0], "line limit-line", "bound")
    frame.x_axis(_clock(study), "UTC")
    return drawing(300.0, [frame], "Grams by hour and policy, beside the bound")

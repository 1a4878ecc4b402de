"""``report.html``: a study on one page that needs nothing else, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from router.lab.study.execute import Study
from router.lab.study.report import comparisons, tables, timelines
from router.lab.study.report.distances import distance_page
from router.lab.study.report.splits import how, split_page, split_words, with_interval
from router.lab.study.report.terminal import warnings
from router.lab.study.report.theme import style_sheet
from router.lab.study.report.units import figure, milliseconds, percent, signed_percent
from router.units import HOUR_S


def html(study: Study, summary: Mapping[str, Any]) -> str:
    """The whole page. ``summary``: of `summarise`, NaN still in it."""
    parts = [
        _head(summary), _tiles(summary), _warned(summary), _traffic(study), _grams(study, summary),
        distance_page(summary), _latency(study, summary), _frontier(study, summary),
        _occupancy(study), split_page(summary), tables.table(summary), tables.savings(summary),
        tables.regions(summary),
        _words(summary), _origin(summary),
    ]  # fmt: skip
    name = escape(summary["scenario"]["name"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name}: carbon-router simulation</title>"
        f"<style>{style_sheet()}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _head(summary: Mapping[str, Any]) -> str:
    scenario = summary["scenario"]
    asked = " and ".join(summary["asked"])
    regions = len(scenario["regions"])
    replicas = sum(region["replicas"] for region in scenario["regions"].values())
    return (
        f"<h1>{escape(scenario['name'])}: what {escape(asked)} would save</h1>"
        f'<p class="soft">{escape(scenario["description"])}</p>'
        f"<p>{summary['demand']['requests']:,} requests from {scenario['start']} for "
        f"{figure(scenario['duration_s'] / HOUR_S)} h over {_count(replicas, 'replica')} in "
        f"{_count(regions, 'region')}, seed {scenario['seed']}. <b>Everything here is "
        f"{how(summary)}</b> on the grid's recorded intensities; the bound is an estimate of the "
        "best that anyone could do.</p>"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _tiles(summary: Mapping[str, Any]) -> str:
    tiles = []
    for name in summary["asked"]:
        one = summary["policies"][name]
        for baseline in ("latency-first", "latency-first-packed", "static-greenest-packed"):
            split = one["saving_split"].get(baseline)
            if split is None:
                continue
            caveat = "" if split["equal_work"] else "; not at equal work"
            tiles.append((
                with_interval(split["total"]["consequential"]),
                f"less gCO2e of the fleet with {name} than with {baseline}, by "
                f"{split_words(split)}{caveat}",
            ))  # fmt: skip
        tiles.append((
            signed_percent(one["regret"]["attributional"]),
            f"{name} above the lower bound, attributional "
            f"({signed_percent(one['regret']['consequential'])} fleet)",
        ))  # fmt: skip
        flows = summary["mode"] == "fluid"
        tiles.append((
            percent(one["completed_share" if flows else "slo_attainment"], 2),
            f"of requests {'answered' if flows else 'within their budgets'} with {name}; "
            f"{one['shed'] + one['failed']:,} not answered",
        ))  # fmt: skip
    inner = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(text)}</span></div>'
        for value, text in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _warned(summary: Mapping[str, Any]) -> str:
    return "".join(f'<p class="warn">{escape(line)}</p>' for line in warnings(summary))


def _traffic(study: Study) -> str:
    regions = timelines.region_legend(study)
    zones = study.simulation.fleet.regions
    chips = [(f"r{at}", f"{name} ({zones[name].grid_zone})") for at, name in
             enumerate(regions.names)]  # fmt: skip
    caption = (
        "Every policy gets the same requests; height is requests a second, regions stacked from "
        "the cleanest grid (mean of the period) up. Intensities are those of the carbon file."
    )
    legend = _chips(chips)
    if regions.rest:
        caption = (
            "Every policy gets the same requests; height is requests a second, stacked by what the "
            "grid that they went to emitted in that hour: the less brown, the cleaner. Below, "
            "every region's grid zone, the busiest regions in colour."
        )
        count = len(timelines.CLASSES_G_PER_KWH) + 1
        legend = _chips((f"g{at}", timelines.class_name(at)) for at in range(count)) + legend
    return _figure("Where the traffic went, and what the grids emitted",
                   timelines.traffic(study, 0), caption, legend)  # fmt: skip


def _grams(study: Study, summary: Mapping[str, Any]) -> str:
    chips = [("own", "attributional: the requests' shares of their replicas' energy"),
             ("busy", "fleet: replicas with work"), ("idle", "fleet: idle replicas")]  # fmt: skip
    if study.simulation.autoscaling:
        chips.append(("wake", "fleet: waking up"))
    chips.append(("limit-chip", "lower bound (estimated)"))
    caption = (
        "Grams of the same work under each policy. The bound knows everything in advance and may "
        "use fractions of replicas."
    )
    by_policy = _figure("Grams by policy, next to the bound",
                        comparisons.gram_bars(study, summary), caption, _chips(chips))  # fmt: skip
    hourly = timelines.hourly_grams(study)
    return by_policy + _figure("", hourly, "", _lines(study, also_bound=True))


def _latency(study: Study, summary: Mapping[str, Any]) -> str:
    drawn = comparisons.latency(study, "ttft") + comparisons.latency(study, "e2e")
    caption = (
        "How many of the answered requests had their first token, and their last, within a time. "
        "Each step up is ten times fewer left over. "
        + _budget_words(summary)
    )  # fmt: skip
    return _figure("Latency against budgets", drawn, caption, _lines(study))


def _budget_words(summary: Mapping[str, Any]) -> str:
    tpot = summary["demand"]["budgets"]["tpot_ms"]
    if not tpot:
        return ""
    listed = ", ".join(f"{milliseconds(one['ms'])} ({one['requests']:,} requests)" for one in tpot)
    return f"Budgets per output token, not drawn: {listed}; they count in SLO met."


def _frontier(study: Study, summary: Mapping[str, Any]) -> str:
    drawn = comparisons.frontier(study, summary, "ttft_ms")
    drawn += comparisons.frontier(study, summary, "e2e_ms")
    caption = (
        "Each policy a point: to the left is faster, down is cleaner. Hollow points did not do all "
        "of the work within its budgets."
    )
    return _figure("The carbon-latency frontier", drawn, caption, "")


def _occupancy(study: Study) -> str:
    parts = []
    names = [policy.name for policy in study.policies]
    other = names.index("latency-first") if "latency-first" in names else 0
    for place in dict.fromkeys((0, other)):
        drawn = timelines.occupancy(study, place)
        if drawn:
            parts.append(f"<p>{escape(names[place])}</p>{drawn}")
    caption = (
        "A row a replica (a region's mean where there are many), the cleanest grid on top: the "
        "stronger the colour, the fuller, of max_in_flight; faint: awake without work, or off. A "
        "full replica spends least energy on each token."
    )
    return _figure("How full the replicas were", "".join(parts), caption, "") if parts else ""


def _words(summary: Mapping[str, Any]) -> str:
    kinds = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>"
        for name, text in summary["kinds"].items()
    )
    listed = "".join(f"<li>{escape(text)}</li>" for text in summary["assumptions"])
    notes = "".join(f"<li>{escape(text)}</li>" for text in summary["notes"])
    noted = f"<h2>Notes on this scenario</h2><ul>{notes}</ul>" if notes else ""
    return (
        "<h2>What each figure is</h2>"
        f'<table class="words"><tr><th>figure</th><th>kind, and how it came to be</th></tr>{kinds}'
        f"</table><h2>Assumptions and limits</h2><ul>{listed}</ul>{noted}"
    )


def _origin(summary: Mapping[str, Any]) -> str:
    scenario = summary["scenario"]
    files = "".join(
        f"<tr><td>{escape(one['role'])}</td><td>{escape(one['file'])}</td>"
        f"<td><code>{one['digest']}</code></td></tr>"
        for one in scenario["files"]
    )
    profiles = "".join(
        f"<tr><td>{escape(one['name'])}</td><td>{escape(one['kind'])}</td>"
        f"<td>{escape(one['source'])}</td></tr>"
        for one in summary["profiles"]
    )
    notices = "".join(f"<p>{escape(notice)}</p>" for notice in summary["notices"])
    return (
        "<h2>Where it comes from</h2>"
        f"<p>carbon-router {summary['version']}, scenario digest "
        f"<code>{scenario['digest']}</code>, seed {scenario['seed']}, savings split under "
        f"{_count(len(scenario['seeds_of_split']), 'seed')} from it on: the same give the same "
        "report.</p>"
        f'<div class="scroll"><table class="words"><tr><th>role</th><th>file</th><th>SHA-256</th>'
        f'</tr>{files}</table></div><div class="scroll"><table class="words"><tr><th>profile</th>'
        f"<th>kind</th><th>source</th></tr>{profiles}</table></div>{notices}"
    )


def _figure(title: str, drawn: str, caption: str, legend: str) -> str:
    if not drawn:
        return ""
    head = f"<h2>{escape(title)}</h2>" if title else ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"{head}<figure>{legend}{drawn}{below}</figure>"


def _chips(chips: Iterable[tuple[str, str]]) -> str:
    inner = "".join(
        f'<span><i class="chip {style}"></i>{escape(text)}</span>' for style, text in chips
    )
    return f'<div class="legend">{inner}</div>'


def _lines(study: Study, *, also_bound: bool = False) -> str:
    """A stroke a policy, dashed as in the chart."""
    entries = [(f"p{at % 8}", policy.name) for at, policy in enumerate(study.policies)]
    if also_bound:
        entries.append(("limit-line", "lower bound"))
    inner = "".join(
        '<span><svg viewBox="0 0 30 12" aria-hidden="true"><line x1="0" y1="6" x2="30" y2="6" '
        f'class="line {style}"/></svg>{escape(name)}</span>'
        for style, name in entries
    )
    return f'<div class="legend">{inner}</div>'

"""A report as tables: SCI, GHG Protocol, hours, coefficients, what is lost. Columns carry units.

Energy is in kWh and mass in g, as binary fractions of the exact sums; a figure that is not known is
empty, never 0. Location-based, marginal and market-based grams stand side by side: they answer
different questions and are never added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from router.ledger.month import US_PER_S, hour_text
from router.ledger.quantities import FunctionalUnit
from router.operator.reporting.gather import GroupSums, Per, Report, ReportQuestion, ZoneHour
from router.operator.reporting.waiting import waiting_rows

Row = dict[str, Any]


class Component(NamedTuple):
    """Part of a score. ``energy``, ``mass``: columns of `priced_cells.SUMS`; ``letter``: of
    ISO/IEC 21031, O operational or M embodied; ``how``: sourced, measured or modelled."""

    name: str
    energy: str
    mass: str
    letter: str
    how: str


COMPONENTS: Final = (
    Component("requests", "it_q", "it_g", "O", ""),
    Component("idle", "idle_q", "idle_g", "O", "measured or modelled"),
    Component("beyond requests", "difference_q", "difference_g", "O", "measured or modelled"),
    Component("facility overhead", "overhead_q", "overhead_g", "O", "sourced"),
    Component("network", "network_q", "network_g", "O", "modelled"),
    Component("gateway", "gateway_q", "gateway_g", "O", "modelled"),
    Component("embodied", "", "embodied_g", "M", "modelled"),
)
# The rest is by profiles of such hardware, or estimated: modelled.
_SHOWN_KINDS: Final = ("measured", "calibrated", "emulated")
# What the ledger tells beside receipts, in its table of spans.
_OF_SPANS: Final = ("idle_q", "difference_q", "gateway_q")


def tables(report: Report) -> dict[str, list[Row]]:
    """By the name of the file that it becomes."""
    absent = absent_parts(report)
    return {
        "sci": list(_sci(report)),
        "components": list(_components(report)),
        "coefficients": [one._asdict() for one in report.coefficients],
        "scope2": [_scope2(one) for one in report.hours if one.grid_zone],
        "scope3_category1": list(_scope3(report)),
        "hours": [_hour(one, report.per, absent) for one in report.group_hours],
        "waiting": waiting_rows(report.waited, str(report.per)),
        "settlement": list(_settlement(report)),
        "forecast_errors": list(_errors(report)),
        "lost_rows": list(_lost(report)),
        "inputs": [one._asdict() for one in report.files],
    }


def kind_share(kinds: Mapping[str, int], kind: str) -> float | None:
    """Of IT energy, the part that is known so; None where there was none."""
    whole = sum(kinds.values())
    return kinds.get(kind, 0) / whole if whole else None


def absent_parts(report: Report) -> frozenset[str]:
    """Columns of energy of which the ledger told nothing all month: not known, rather than 0."""
    return frozenset(name for name in _OF_SPANS if not report.total.count(name))


def unit_count(
    figures: GroupSums, question: ReportQuestion, model: str = ""
) -> list[tuple[FunctionalUnit, float]]:
    """What a group did, in units in which it can be told. ``model``: may have one of its own."""
    answered = figures.count("answered")
    output = figures.count("output_tokens")
    found: list[tuple[FunctionalUnit, float]] = [(FunctionalUnit.REQUEST, answered)]
    if model in question.units:
        unit, of_one = question.units[model]
        found.append((unit, answered * of_one))
    # What is no language model has one token an answer.
    elif output > answered:
        tokens = figures.count("input_tokens") + output
        found += [(FunctionalUnit.TOKEN, tokens), (FunctionalUnit.OUTPUT_TOKEN, output)]
    return found


def requests_how(kinds: Mapping[str, int]) -> str:
    """How the energy of requests is known: one word, or the shares."""
    shares = {kind: kind_share(kinds, kind) or 0.0 for kind in _SHOWN_KINDS}
    for kind, share in shares.items():
        if share == 1.0:
            return kind
    told = [f"{kind} {share:.1%}" for kind, share in shares.items() if share]
    return ", ".join([*told, "else modelled"]) if told else "modelled"


def _everyone(report: Report) -> Iterator[tuple[str, GroupSums, Mapping[str, int]]]:
    """All groups, and then all together, each with how its IT energy is known."""
    whole: dict[str, int] = {}
    for one in report.groups:
        kinds = report.kinds.get(one.group, {})
        for kind, quanta in kinds.items():
            whole[kind] = whole.get(kind, 0) + quanta
        yield one.group, one, kinds
    yield "(all)", report.total, whole


def _sci(report: Report) -> Iterator[Row]:
    for group, figures, kinds in _everyone(report):
        model = group if report.per is Per.MODEL else ""
        operational, embodied = figures.operational(), figures.embodied()
        total = figures.mass("total_g") if operational else None
        for unit, count in unit_count(figures, report.question, model):
            score = total.per(count, unit) if total else None
            yield {
                str(report.per): group,
                "functional_unit": str(unit),
                "r_count": count,
                "energy_kwh": figures.energy("facility_q").kwh,
                "operational_g": operational.g if operational else None,
                "embodied_g": embodied.g if embodied else None,
                "total_g": total.g if total else None,
                "sci_g_per_unit": score.g if score else None,
                "sci_g_per_million_units": score.g_per(1_000_000) if score else None,
                "low_g": figures.mass("low_total_g").g if total else None,
                "high_g": figures.mass("high_total_g").g if total else None,
                "energy_how": requests_how(kinds),
                "intensity_how": _intensity_how(figures),
                "embodied_how": "modelled",
                "kwh_without_intensity": figures.energy("unpriced_q").kwh,
                "hours_without_embodied": _unmade(report, figures),
                "basis": "location-based, average",
                "boundary": "consumer: inference, idle, facility, network, gateway",
            }


def _unmade(report: Report, figures: GroupSums) -> int:
    # Not by name: a caller may call itself (all).
    if figures is report.total:
        return sum(report.unmade_hours.values())
    return report.unmade_hours.get(figures.group, 0)


def _intensity_how(figures: GroupSums) -> str:
    facility, settled = figures.count("facility_q"), figures.count("settled_q")
    if not settled:
        return "sourced, as on receipts"
    if settled >= facility:
        return "sourced, settled"
    return f"sourced, settled of {settled / facility:.1%} of the energy"


def _components(report: Report) -> Iterator[Row]:
    absent = absent_parts(report)
    for group, figures, kinds in _everyone(report):
        for one in COMPONENTS:
            known = one.energy not in absent
            yield {
                str(report.per): group,
                "letter": one.letter,
                "component": one.name,
                "energy_kwh": figures.energy(one.energy).kwh if one.energy and known else None,
                "g": _known(figures, one) if known else None,
                "how": (one.how or requests_how(kinds)) if known else "not in this ledger",
            }
        yield {
            str(report.per): group,
            "letter": "C",
            "component": "total",
            "energy_kwh": figures.energy("facility_q").kwh,
            "g": figures.mass("total_g").g if figures.operational() else None,
            "how": "",
        }


def _known(figures: GroupSums, one: Component) -> float | None:
    if one.letter == "M" and figures.embodied() is None:
        return None
    known = figures.priced(one.energy, one.mass) if one.energy else figures.mass(one.mass)
    return known.g if known else None


def _location(figures: GroupSums) -> float | None:
    known = figures.operational()
    return known.g if known else None


def _scope2(one: ZoneHour) -> Row:
    figures = one.figures
    facility, market = figures.energy("facility_q"), one.market_g_per_kwh
    return {
        "hour": hour_text(one.hour),
        "grid_zone": one.grid_zone,
        "energy_kwh": facility.kwh,
        "location_g_per_kwh": _factor(figures),
        "location_factor_source": one.source,
        "location_factor_kind": one.kind,
        "location_factor_vintage": stamp(one.observed_us),
        "location_factor_revision": one.revision or None,
        "location_g": _location(figures),
        "market_g_per_kwh": market,
        "market_g": None if market is None else facility.at(market).g,
        "marginal_g": _marginal(figures),
        "kwh_without_intensity": figures.energy("unpriced_q").kwh,
    }


def _factor(figures: GroupSums) -> float | None:
    priced = figures.count("facility_q") - figures.count("unpriced_q")
    kwh = figures.energy("facility_q").kwh - figures.energy("unpriced_q").kwh
    return figures.mass("operational_g").g / kwh if priced > 0 and kwh > 0 else None


def _marginal(figures: GroupSums) -> float | None:
    return figures.mass("marginal_total_g").g if figures.count("marginal_known_q") else None


def _scope3(report: Report) -> Iterator[Row]:
    """What a customer enters of this service: purchased goods and services, category 1."""
    for group, figures, kinds in _everyone(report):
        key = "" if figures is report.total else f"{report.per}:{group}"
        market_q, market_known = report.market.get(key, (0, 0))
        total = figures.mass("total_g")
        yield {
            "reporting_period": str(report.month),
            str(report.per): group,
            "requests": figures.count("answered"),
            "input_tokens": figures.count("input_tokens"),
            "output_tokens": figures.count("output_tokens"),
            "energy_kwh": figures.energy("facility_q").kwh,
            "emissions_tco2e": total.kg / 1000.0,
            "of_it_electricity_location_g": figures.mass("operational_g").g,
            "of_it_embodied_g": _known(figures, COMPONENTS[-1]),
            "electricity_market_g": GroupSums("", {"m": market_q}).mass("m").g
            if market_known
            else None,
            "kwh_with_market_factor": GroupSums("", {"m": market_known}).energy("m").kwh
            if report.market
            else None,
            "calculation_method": "supplier-specific: receipts of each request",
            "share_of_energy_measured": kind_share(kinds, "measured"),
            "share_of_energy_calibrated": kind_share(kinds, "calibrated"),
            "low_g": figures.mass("low_total_g").g,
            "high_g": figures.mass("high_total_g").g,
            "emission_factor_basis": "location-based, average",
        }


def _hour(one: ZoneHour, per: Per, absent: frozenset[str]) -> Row:
    figures = one.figures
    parts = {
        f"{part.removesuffix('_q')}_kwh": None if part in absent else figures.energy(part).kwh
        for part in (one.energy for one in COMPONENTS)
        if part
    }
    return {
        "hour": hour_text(one.hour),
        "grid_zone": one.grid_zone,
        str(per): figures.group,
        "answered": figures.count("answered"),
        "failed": figures.count("failed"),
        "cancelled": figures.count("cancelled"),
        "refused": figures.count("refused"),
        "moved": figures.count("moved"),
        "input_tokens": figures.count("input_tokens"),
        "cached_tokens": figures.count("cached_tokens"),
        "output_tokens": figures.count("output_tokens"),
        **parts,
        "energy_kwh": figures.energy("facility_q").kwh,
        "location_g_per_kwh": _factor(figures),
        "location_g": _location(figures),
        "location_g_receipted": figures.mass("g_q").g,
        "settled": figures.count("settled_q") > 0,
        "revision": one.revision or None,
        "marginal_g": _marginal(figures),
        "market_g_per_kwh": one.market_g_per_kwh,
        "embodied_g": _known(figures, COMPONENTS[-1]),
        "kwh_without_intensity": figures.energy("unpriced_q").kwh,
    }


def _settlement(report: Report) -> Iterator[Row]:
    for group, figures, _ in _everyone(report):
        yield {
            str(report.per): group,
            "receipted_g": figures.mass("g_q").g,
            "energy_kwh": figures.energy("facility_q").kwh,
            "settled_kwh": figures.energy("settled_q").kwh,
            "settled_g": figures.mass("settled_g").g,
            "receipted_g_of_settled": figures.mass("settled_receipted_g").g,
        }


def _errors(report: Report) -> Iterator[Row]:
    """How far receipts' intensities were off, by lead: hours from when they were known."""
    for one in report.errors:
        yield {
            "grid_zone": one.grid_zone,
            "receipts_kind": one.kind,
            "lead_from_h": None if one.lead_h < 0 else one.lead_h,
            "hours": one.hours,
            "settled_mean_g_per_kwh": one.settled_mean,
            "mean_error_g_per_kwh": one.mean_error,
            "mean_absolute_error_g_per_kwh": one.mean_absolute,
            "relative_absolute_error": one.relative,
            "share_of_hours_within_90_percent_interval": one.within,
        }


def _lost(report: Report) -> Iterator[Row]:
    for one in report.lost:
        yield {
            "writer": one.writer,
            "first_seq": one.first,
            "last_seq": one.last,
            "rows": one.rows,
            "reason": one.reason or None,
            "since": stamp(one.since_us),
            "until": stamp(one.until_us),
        }


def stamp(us: int | None) -> str | None:
    """Microseconds since 1970 as ISO 8601, whole seconds."""
    if us is None:
        return None
    return f"{datetime.fromtimestamp(us // US_PER_S, UTC):%Y-%m-%dT%H:%M:%SZ}"

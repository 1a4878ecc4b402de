"""What was found, as a profile that `profiles:` of a configuration takes, beside the one it had."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, NamedTuple

import yaml

from router.config.profiles import TaskProfileSchema, TokenProfileSchema, calibrated_name
from router.errors import DataError
from router.load.calibration.fit import CalibrationFit, FittedFigure
from router.model import EnergyMeter, Profile, TaskProfile

_DIGITS: Final = 4
# What a meter of GPUs and host has in its joules already.
_HOST: Final = ("host_fraction", "host_awake_w", "host_idle_w")
# Figures that the host's draw adds to, and the key of what it adds beside its fraction.
_WITH_HOST: Final = {
    "idle_w": "host_idle_w",
    "base_w": "host_awake_w",
    "prefill_w": "host_awake_w",
    "prefill_w_low": "host_awake_w",
    "prefill_w_high": "host_awake_w",
    "w_per_token_s": "",
    "energy_j": "",
}
_OF_PREFILL: Final = ("prefill_w", "prefill_w_low", "prefill_w_high")
# Terms that are within a figure that was found, at the lengths that were served meanwhile.
_WITHIN: Final = {
    "tpot_ms_per_cached_token": "tpot_ms_per_sequence",
    "prefill_ms_per_piece": "prefill_ms_per_token",
    "prefill_ms_per_token2": "prefill_ms_per_token",
}
# Not of the figures that stay as they were: of whoever found the new ones.
_BASIS: Final = ("provenance", "calibrated_on", "as_of", "source")
# Without these it is the former profile that is used, and no measurement.
_DECISIVE: Final = {"token": ("idle_w", "base_w", "w_per_token_s"), "task": ("energy_j",)}


class ProfileFacts(NamedTuple):
    """Where figures come from. ``since``, ``until``: as text, UTC."""

    endpoint: str
    engine: str
    meter: EnergyMeter
    by_watts: bool
    since: str
    until: str


def profile_name(former: Profile, endpoint: str) -> str:
    """Of the new profile."""
    return calibrated_name(former.name, endpoint)


def profile_yaml(former: Profile, fit: CalibrationFit, facts: ProfileFacts) -> str:
    """The whole entry, with a comment a figure. What is not known stays as it was."""
    values = profile_values(former, fit, facts)
    lines = ["profiles:", f"  {profile_name(former, facts.endpoint)}:"]
    figures = {figure.key: figure for figure in fit.figures if figure.key}
    for key, value in values.items():
        text = yaml.safe_dump({key: value}, width=math.inf, allow_unicode=True).strip()
        lines.append(f"    {text}{_comment(key, figures, former, facts.meter)}")
    return "\n".join(lines) + "\n"


def profile_values(former: Profile, fit: CalibrationFit, facts: ProfileFacts) -> dict[str, Any]:
    """By key, as the schema of profiles takes them. Raises DataError where nothing of them is
    known, and pydantic.ValidationError where they are no profile, a fault of this program."""
    values = _former_values(former)
    known = {one.key: one for one in fit.figures if one.key in values and not one.why_not}
    if not known:
        raise DataError(_nothing_known(former, fit))
    for key, figure in known.items():
        values[key] = _rounded(figure.value)
    values.update({term: 0.0 for term, key in _WITHIN.items() if key in known})
    prefill = known.get("prefill_w")
    if prefill is not None:
        values["prefill_w_low"] = _rounded(prefill.low)
        values["prefill_w_high"] = _rounded(prefill.high)
    if facts.meter.covers_host:
        # What stays as it was had the host's draw beside it.
        for key in _WITH_HOST.keys() & values.keys() - known.keys():
            if key not in _OF_PREFILL or prefill is None:
                values[key] = _rounded(former_value(former, key, facts.meter))
        values.update({key: 0.0 for key in _HOST if key in values})
    _put_in_order(values, known)
    if not facts.by_watts and all(key in known for key in _DECISIVE[values["kind"]]):
        values["provenance"] = "calibrated"
        values["calibrated_on"] = facts.endpoint
    else:
        values["provenance"] = "estimated"
    values["as_of"] = facts.until
    values["source"] = source_text(fit, facts)
    schema = TaskProfileSchema if isinstance(former, TaskProfile) else TokenProfileSchema
    schema.model_validate(values)
    return values


def undecided(former: Profile, fit: CalibrationFit) -> str:
    """Why figures are not known without which it would be the former profile that is used, and no
    calibration; "" where all are."""
    kind = "task" if isinstance(former, TaskProfile) else "token"
    found = {one.key: one for one in fit.figures if one.key}
    lacking = [
        f"{key}: {found[key].why_not if key in found else 'the server does not count it'}"
        for key in _DECISIVE[kind]
        if key not in found or found[key].why_not
    ]
    return "; ".join(lacking)


def source_text(fit: CalibrationFit, facts: ProfileFacts) -> str:
    """In one line: by what, when, how well, and what is not known."""
    how = f"watts of {facts.meter.kind} added up" if facts.by_watts else facts.meter.kind
    covers = "GPU and host" if facts.meter.covers_host else "GPUs alone"
    known = [one for one in fit.figures if one.key and not one.why_not]
    ranges = ", ".join(f"{one.key} {one.low:.4g} to {one.high:.4g}" for one in known)
    lacking = ", ".join(one.key for one in fit.figures if one.key and one.why_not)
    return (
        f"carbon-router calibrate, {how} ({covers}) against {facts.engine}, {facts.endpoint}, "
        f"{facts.since} to {facts.until}, {fit.spans} spans, r2 {fit.r2:.3f}; 95 %: "
        f"{ranges or 'nothing'}" + (f"; as before: {lacking}" if lacking else "")
    )


def _nothing_known(former: Profile, fit: CalibrationFit) -> str:
    why = [f"{one.key}: {one.why_not}" for one in fit.figures if one.key and one.why_not]
    if why:
        return f"nothing can be told: {'; '.join(why)}"
    kind = "requests" if isinstance(former, TaskProfile) else "tokens"
    return f"{former.name} is a profile of {kind}, which the server does not count"


def _former_values(former: Profile) -> dict[str, Any]:
    kind = "task" if isinstance(former, TaskProfile) else "token"
    values: dict[str, Any] = {"kind": kind}
    for field in fields(former):
        value = getattr(former, field.name)
        if field.name in ("name", *_BASIS) or (isinstance(value, float) and math.isnan(value)):
            continue
        values[field.name] = value if isinstance(value, int | float) else str(value)
    return values


def _put_in_order(values: dict[str, Any], known: Mapping[str, FittedFigure]) -> None:
    """What stays as it was gives way to what was found; of two that were found, within their
    intervals, the lower one."""
    for lower, upper in (("base_w", "prefill_w"), ("idle_w", "base_w")):
        if lower in values and values[lower] > values[upper]:
            if upper in known:
                values[lower] = values[upper]
            else:
                values[upper] = values[lower]
    if "prefill_w" in values and values["base_w"] > values["prefill_w"]:
        values["prefill_w"] = values["base_w"]
    for end, pick in (("prefill_w_low", min), ("prefill_w_high", max)):
        if end in values:
            values[end] = pick(values[end], values["prefill_w"])


def former_value(former: Profile, key: str, meter: EnergyMeter) -> float:
    """Of ``former``, with its host's where ``meter`` covers that; NaN where it has no such key."""
    was = float(getattr(former, key, math.nan))
    if not meter.covers_host or key not in _WITH_HOST:
        return was
    return was * (1.0 + former.host_fraction) + float(getattr(former, _WITH_HOST[key], 0.0))


def _comment(
    key: str, figures: Mapping[str, FittedFigure], former: Profile, meter: EnergyMeter
) -> str:
    holder = figures.get(_WITHIN.get(key, ""))
    if holder is not None and not holder.why_not:
        return f"  # within {holder.key}, at the lengths served meanwhile"
    figure = figures.get(key)
    if figure is None:
        return ""
    if figure.why_not:
        return f"  # as before: {figure.why_not}"
    was = former_value(former, figure.key, meter)
    return f"  # {figure.low:.4g} to {figure.high:.4g}; was {was:.4g}"


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")

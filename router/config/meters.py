"""``endpoints[].meter`` of the file: what counts an endpoint's joules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, combinations
from typing import Annotated, Literal

from pydantic import Field

from router.config.fields import Strict, Text, Url
from router.config.problems import Problem
from router.model import CalibrationTimes, EnergyMeter

LabelName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
LabelValues = Text | Annotated[list[Text], Field(min_length=1, max_length=1024)]

# Whose counters of work are known (`router.load.work_counters.WORK`).
COUNTING_ENGINES = ("vllm", "nim", "sglang", "llamacpp", "tgi", "triton")
# Parts of a GPU, whose samples all tell the joules of the whole.
_PARTS = ("GPU_I_ID", "GPU_I_PROFILE")


class CalibrateSchema(Strict):
    """The gateway fits the endpoint's profile to its meter as it runs."""

    every_s: float = Field(
        default=10.0, ge=1.0, le=120.0, description="between two readings of both pages"
    )
    refit_s: float = Field(
        default=1800.0,
        ge=60.0,
        le=86_400.0,
        description="between two fits, each of the last 2,048 readings",
    )


class MeterSchema(Strict):
    """What counts the joules of an endpoint, for the ledger and for `calibrate`."""

    kind: Literal["dcgm", "triton", "emulated"] = Field(
        description="whose metric names to read: `dcgm` exporter, `triton` (also TensorRT-LLM "
        "behind it), or this program's emulated servers"
    )
    url: Url | None = Field(
        default=None,
        description="Prometheus text, such as http://node-7:9400/metrics; left out: `metrics.url`",
    )
    labels: dict[LabelName, LabelValues] = Field(
        default_factory=dict,
        max_length=16,
        description="of the samples that are this endpoint's, a value or a list of them each, such "
        'as `{Hostname: node-7, gpu: ["0", "1"]}`; their joules are added up; left out: all on '
        "the page are",
    )
    add_watts: bool = Field(
        default=False,
        description="where the exporter counts no joules: its watts are read every 10 s and added "
        "up, which is an estimate",
    )
    covers_host: bool = Field(
        default=False,
        description="CPU and DRAM are in it; else the profile's host draw is added in the ledger",
    )
    calibrate: CalibrateSchema | None = Field(
        default=None,
        description="fit the endpoint's profile to it all the time, as `carbon-router calibrate` "
        "does once; `{}`: as by default",
    )


def build_meter(schema: MeterSchema | None, metrics_url: str) -> EnergyMeter | None:
    """``metrics_url``: of the endpoint, "" for none."""
    if schema is None:
        # The page of an emulated server has its joules; another's does not have that name.
        return EnergyMeter(metrics_url, "emulated", covers_host=True) if metrics_url else None
    return EnergyMeter(
        url=schema.url or metrics_url,
        kind=schema.kind,
        labels={name: _values(values) for name, values in schema.labels.items()},
        adds_watts=schema.add_watts,
        covers_host=schema.covers_host or schema.kind == "emulated",
        calibration=None
        if schema.calibrate is None
        else CalibrationTimes(schema.calibrate.every_s, schema.calibrate.refit_s),
    )


def check_meters(meters: Sequence[tuple[str, MeterSchema | None, str]]) -> list[Problem]:
    """``meters``: by endpoint its name, its meter, and its metrics page or "".

    Each has a page, counts whole GPUs, and counts none that another endpoint's counts as well.
    """
    problems: list[Problem] = []
    # By page and kind: there are many pages, and few meters on each.
    found: dict[tuple[str, str], list[tuple[int, EnergyMeter]]] = {}
    for index, (_, schema, metrics_url) in enumerate(meters):
        meter = build_meter(schema, metrics_url)
        if schema is None or meter is None:
            continue
        at = f"endpoints[{index}].meter"
        if not meter.url:
            problems.append((f"{at}.url", "is missing, and the endpoint has no metrics.url"))
        if parts := [name for name in _PARTS if name in meter.labels]:
            text = "names a part of a GPU, and exporters tell the joules of the whole GPU alone"
            problems.append((f"{at}.labels.{parts[0]}", text))
        found.setdefault((meter.url, meter.kind), []).append((index, meter))
    pairs = chain.from_iterable(combinations(there, 2) for there in found.values())
    for (first, one), (second, other) in pairs:
        if _overlap(one.labels, other.labels):
            text = (
                f"may count what the meter of {meters[first][0]!r} counts: give both labels that "
                "differ, or one of them no meter"
            )
            problems.append((f"endpoints[{second}].meter.labels", text))
    return problems


def check_calibration(
    at: str, meter: MeterSchema | None, engine: str, models: int
) -> list[Problem]:
    """``at``: the endpoint's place in the file; ``engine``: of its metrics page, "" for none;
    ``models``: how many it serves."""
    if meter is None or meter.calibrate is None:
        return []
    text = ""
    if engine not in COUNTING_ENGINES:
        text = f"needs what the server counts: metrics.engine of {', '.join(COUNTING_ENGINES)}"
    elif models > 1:
        text = f"cannot tell {models} models apart: one meter counts the joules of all"
    elif meter.add_watts:
        text = "wants counted joules, and add_watts says that there are watts alone"
    return [(f"{at}.meter.calibrate", text)] if text else []


def _overlap(one: Mapping[str, frozenset[str]], other: Mapping[str, frozenset[str]]) -> bool:
    """Whether a sample can be of both, as far as their labels tell."""
    return not any(one[name].isdisjoint(other[name]) for name in one.keys() & other.keys())


def _values(values: str | list[str]) -> frozenset[str]:
    return frozenset([values] if isinstance(values, str) else values)

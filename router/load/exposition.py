"""Reads the few gauges that routing needs out of a Prometheus text page, by byte scan.

A page of a busy server holds hundreds of histogram lines that routing never looks at, so only
lines that start with a wanted name are ever split into labels and value.
"""

from __future__ import annotations

import math
import re
from os.path import commonprefix
from typing import NamedTuple

from router.errors import DataError
from router.model import Load


class Gauge(NamedTuple):
    """One gauge of an engine; ``label`` is a ``name="value"`` pair that a sample must carry."""

    name: str
    label: str = ""


class Engine(NamedTuple):
    """Where an engine keeps its load. Of several alternatives the first one on the page counts.

    ``running_known``: whether every server of this engine tells how many requests run.
    """

    queued: tuple[Gauge, ...]
    running: tuple[Gauge, ...]
    kv: tuple[Gauge, ...] = ()
    running_known: bool = True


# Names as the engines export them. Triton's nv_inference_exec_count is a cumulative counter, so
# plain Triton has no gauge of running requests.
ENGINES: dict[str, Engine] = {
    "vllm": Engine(
        queued=(Gauge("vllm:num_requests_waiting"),),
        running=(Gauge("vllm:num_requests_running"),),
        kv=(Gauge("vllm:kv_cache_usage_perc"), Gauge("vllm:gpu_cache_usage_perc")),
    ),
    "sglang": Engine(
        queued=(Gauge("sglang:num_queue_reqs"),),
        running=(Gauge("sglang:num_running_reqs"),),
        kv=(Gauge("sglang:token_usage"),),
    ),
    "trtllm": Engine(
        queued=(Gauge("trtllm_num_requests_waiting"),),
        running=(Gauge("trtllm_num_requests_running"),),
        kv=(Gauge("trtllm_kv_cache_utilization"),),
    ),
    "triton": Engine(
        queued=(
            Gauge("nv_trt_llm_request_metrics", 'request_type="waiting"'),
            Gauge("nv_inference_pending_request_count"),
        ),
        running=(Gauge("nv_trt_llm_request_metrics", 'request_type="scheduled"'),),
        kv=(Gauge("nv_trt_llm_kv_cache_block_metrics", 'kv_cache_block_type="fraction"'),),
        running_known=False,
    ),
    "tgi": Engine(
        queued=(Gauge("tgi_queue_size"),),
        running=(Gauge("tgi_batch_current_size"),),
    ),
    "llamacpp": Engine(
        queued=(Gauge("llamacpp:requests_deferred"),),
        running=(Gauge("llamacpp:requests_processing"),),
        kv=(Gauge("llamacpp:kv_cache_usage_ratio"),),
    ),
}

# Rounding of a ratio may overshoot 1 a little; a percentage (up to 100) must not pass for one.
_KV_CEILING = 1.001

_TAIL = re.compile(
    rb'[ \t]*+(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*+")*+)\})?+[ \t]*+([^ \t{}"]++)(?:[ \t].*+)?+'
)

_Samples = dict[str, list[tuple[bytes, float]]]


class _Scanner(NamedTuple):
    engine: Engine
    lines: re.Pattern[bytes]


def _scanner(engine: Engine) -> _Scanner:
    names = sorted({gauge.name for gauge in engine.queued + engine.running + engine.kv})
    # A literal prefix lets the regex engine skip to candidate lines instead of testing each one.
    prefix = commonprefix(names)  # noqa: RUF071 - no paths, characters are meant
    rest = "|".join(re.escape(name[len(prefix) :]) for name in names)
    pattern = rf"\n({re.escape(prefix)}(?:{rest}))(?=[ \t{{])([^\n]*+)"
    return _Scanner(engine, re.compile(pattern.encode()))


_SCANNERS = {name: _scanner(engine) for name, engine in ENGINES.items()}


def scan(body: bytes, engine: str, now: float) -> Load:
    """The load on one text page of ``engine`` (a key of ENGINES), read at ``now``.

    Counts add up over label sets (several models, several engine replicas); ``kv_fraction`` is
    the fullest cache. A gauge that this engine does not have is NaN: ``running`` of plain Triton,
    ``kv_fraction`` of servers without one. Raises DataError when a gauge that the engine always
    has is missing, or when a wanted sample is malformed, negative or not finite.
    """
    scanner = _SCANNERS.get(engine)
    if scanner is None:
        raise DataError(f"unknown engine {engine!r}: use one of {', '.join(sorted(ENGINES))}")
    if not body.endswith(b"\n"):
        raise DataError("the page is cut off: its last line has no line feed")
    samples: _Samples = {}
    for name, tail in scanner.lines.findall(b"\n" + body):
        text = name.decode()
        samples.setdefault(text, []).append(_sample(text, tail))
    spec = scanner.engine
    queued = _total(samples, spec.queued)
    running = _total(samples, spec.running)
    if math.isnan(queued):
        raise DataError(_missing(engine, spec.queued))
    if math.isnan(running) and spec.running_known:
        raise DataError(_missing(engine, spec.running))
    return Load(running, queued, _fullest(samples, spec.kv), now)


def _sample(name: str, tail: bytes) -> tuple[bytes, float]:
    match = _TAIL.fullmatch(tail)
    if match is None:
        raise DataError(f"malformed sample of {name}")
    token = match[2]
    try:
        value = float(token)
    except ValueError:
        value = math.nan
    # Python reads 1_000 as a number, the exposition format does not.
    if not (math.isfinite(value) and value >= 0.0) or b"_" in token:
        raise DataError(f"{name} must be a finite number >= 0, got {token[:32]!r}")
    return match[1] or b"", value


def _values(samples: _Samples, alternatives: tuple[Gauge, ...]) -> list[float]:
    for gauge in alternatives:
        found = samples.get(gauge.name, ())
        if gauge.label:
            wanted = gauge.label.encode()
            values = [value for labels, value in found if wanted in _pairs(labels)]
        else:
            values = [value for _, value in found]
        if values:
            return values
    return []


def _pairs(labels: bytes) -> list[bytes]:
    # Quotes inside a value are escaped, so a comma inside one cannot fake a whole pair.
    return [pair.strip() for pair in labels.split(b",")]


def _total(samples: _Samples, alternatives: tuple[Gauge, ...]) -> float:
    values = _values(samples, alternatives)
    return math.fsum(values) if values else math.nan


def _fullest(samples: _Samples, alternatives: tuple[Gauge, ...]) -> float:
    fullest = max(_values(samples, alternatives), default=math.nan)
    if fullest > _KV_CEILING:
        raise DataError(f"KV cache use must be a fraction of 1, got {fullest}")
    return min(fullest, 1.0) if not math.isnan(fullest) else fullest


def _missing(engine: str, alternatives: tuple[Gauge, ...]) -> str:
    names = " or ".join(
        f"{gauge.name}{{{gauge.label}}}" if gauge.label else gauge.name for gauge in alternatives
    )
    return f"no {names} on the page: is this a {engine} server with metrics enabled?"

"""Reads the few gauges that routing needs out of a Prometheus text page, by byte scan.

A page of a busy server holds hundreds of histogram lines that routing never looks at, so only
lines that start with a wanted name are ever split into labels and value. A page is read piece by
piece as it comes, so that a large one never holds the event loop for long.
"""

from __future__ import annotations

import math
import re
from os.path import commonprefix
from typing import NamedTuple

from router.errors import DataError
from router.load.bounds import KV_CEILING, MOST_REQUESTS
from router.load.samples import MOST_LINE_BYTES, MOST_SAMPLES, TAIL, number
from router.model import Load


class Gauge(NamedTuple):
    """One gauge of an engine; ``label`` is a ``name="value"`` pair that a sample must carry."""

    name: str
    label: str = ""


class Engine(NamedTuple):
    """Where an engine keeps its load. Of several alternatives the first one on the page counts.

    ``running_known``: whether every server of this engine tells how many requests run. ``healthy``:
    0 of an engine that cannot serve.
    """

    queued: tuple[Gauge, ...]
    running: tuple[Gauge, ...]
    kv: tuple[Gauge, ...] = ()
    running_known: bool = True
    healthy: tuple[Gauge, ...] = ()


_VLLM = Engine(
    # Newer pages have the queue by reason (capacity, deferred) beside the whole of it.
    queued=(Gauge("vllm:num_requests_waiting"), Gauge("vllm:num_requests_waiting_by_reason")),
    running=(Gauge("vllm:num_requests_running"),),
    kv=(Gauge("vllm:kv_cache_usage_perc"), Gauge("vllm:gpu_cache_usage_perc")),
    # Only with --enable-fault-tolerance.
    healthy=(Gauge("vllm:engine_healthy"),),
)

# Names as the engines export them. Triton's nv_inference_exec_count is a cumulative counter, so
# plain Triton has no gauge of running requests.
ENGINES: dict[str, Engine] = {
    "vllm": _VLLM,
    # At /v1/metrics; in its first versions without the prefix.
    "nim": Engine(
        queued=(*_VLLM.queued, Gauge("num_requests_waiting")),
        running=(*_VLLM.running, Gauge("num_requests_running")),
        kv=(*_VLLM.kv, Gauge("gpu_cache_usage_perc")),
        healthy=_VLLM.healthy,
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
        # Not in builds since b9110.
        kv=(Gauge("llamacpp:kv_cache_usage_ratio"),),
    ),
}

# Ranks that share the work of one replica all tell the same requests (SGLang: tp_rank, pp_rank,
# moe_ep_rank and such); those of data parallelism have requests of their own, and add up.
_SHARED_RANK = re.compile(
    rb'[ \t]*+(?!(?:attn_)?(?:dp|data_parallel)_rank\b)\w*rank[ \t]*+=[ \t]*+"[^"]*+"[ \t]*+'
)


class _Scanner(NamedTuple):
    engine: Engine
    lines: re.Pattern[bytes]
    gauges: dict[bytes, tuple[Gauge, ...]]


def _scanner(engine: Engine) -> _Scanner:
    wanted = engine.queued + engine.running + engine.kv + engine.healthy
    names = sorted({gauge.name for gauge in wanted})
    # A literal prefix lets the regex engine skip to candidate lines instead of testing each one.
    prefix = commonprefix(names)  # noqa: RUF071 - no paths, characters are meant
    rest = "|".join(re.escape(name[len(prefix) :]) for name in names)
    pattern = rf"\n({re.escape(prefix)}(?:{rest}))(?=[ \t{{])([^\n]*+)"
    gauges = {name.encode(): tuple(g for g in wanted if g.name == name) for name in names}
    return _Scanner(engine, re.compile(pattern.encode()), gauges)


_SCANNERS = {name: _scanner(engine) for name, engine in ENGINES.items()}


class DroppedSamples(NamedTuple):
    """Samples of a page that could not be used; ``example``: the first of them."""

    samples: int
    example: str


class PageScan:
    """Reads one text page of ``engine`` (a key of ENGINES), piece by piece.

    ``dropped``: samples that are malformed, negative, not finite or out of range. Each costs
    itself: it counts as if it were not on the page.
    """

    def __init__(self, engine: str) -> None:
        """Raises DataError for an engine that is not known."""
        scanner = _SCANNERS.get(engine)
        if scanner is None:
            raise DataError(f"unknown engine {engine!r}: use one of {', '.join(sorted(ENGINES))}")
        self.dropped = DroppedSamples(0, "")
        self._name = engine
        self._scanner = scanner
        # Per gauge on the page: by the labels of whoever has requests of its own, the value.
        self._values: dict[Gauge, dict[bytes, float]] = {}
        self._lines: set[tuple[bytes, bytes]] = set()
        self._empty = True
        # What came after the last line feed; the first line of a page has one before it, too.
        self._rest = b"\n"

    def take(self, piece: bytes) -> None:
        """The next bytes of the page. Raises DataError when it holds too much of what is wanted."""
        body = self._rest + piece
        end = body.rfind(b"\n")
        self._rest = body[end:]
        self._empty = self._empty and not piece
        if len(self._rest) > MOST_LINE_BYTES:
            raise DataError(f"a line is longer than {MOST_LINE_BYTES} bytes: no metrics page")
        # A line that is repeated tells nothing new.
        for line in dict.fromkeys(self._scanner.lines.findall(body, 0, end)):
            if line in self._lines:
                continue
            self._lines.add(line)
            name, tail = line
            if len(self._lines) > MOST_SAMPLES:
                names = f"{name.decode()} and such: is the URL that of one server?"
                raise DataError(f"over {MOST_SAMPLES} samples of {names}")
            self._take_sample(name, tail)

    def load(self, now: float) -> Load:
        """The load on the page, read at ``now``.

        Counts add up over label sets (several models, data-parallel replicas), with one figure for
        all ranks that share the work of a replica; ``kv_fraction`` is the fullest cache;
        ``healthy``: False where all engines that tell say that they cannot serve. A gauge that this
        engine does not have, or of which no sample can be used, is NaN. Raises DataError when the
        page is cut off, a gauge that the engine always has is not on it, or neither count can be
        used.
        """
        if self._empty or self._rest != b"\n":
            raise DataError("the page is cut off: its last line has no line feed")
        spec = self._scanner.engine
        queued, running = self._found(spec.queued), self._found(spec.running)
        if queued is None:
            raise DataError(_missing(self._name, spec.queued))
        if running is None and spec.running_known:
            raise DataError(_missing(self._name, spec.running))
        if not queued and not running:
            raise DataError(f"no usable count of requests: {self.dropped.example}")
        kv, healthy = self._found(spec.kv), self._found(spec.healthy)
        fullest = min(max(kv), 1.0) if kv else math.nan
        serves = not healthy or max(healthy) > 0.0
        return Load(_total(running), _total(queued), fullest, now, serves)

    def _take_sample(self, name: bytes, tail: bytes) -> None:
        gauges = self._scanner.gauges[name]
        match = TAIL.fullmatch(tail)
        if match is None:
            labels, value = b"", math.nan
            pairs: list[bytes] = []
            self._drop(f"malformed sample of {name.decode()}")
        else:
            labels, value = match[1] or b"", number(match[2])
            # Quotes inside a value are escaped, so a comma inside one cannot fake a whole pair.
            pairs = labels.split(b",")
        for gauge in gauges:
            if gauge.label and gauge.label.encode() not in map(bytes.strip, pairs):
                continue
            values = self._values.setdefault(gauge, {})
            ceiling = KV_CEILING if gauge in self._scanner.engine.kv else MOST_REQUESTS
            if 0.0 <= value <= ceiling:
                who = _owner(labels, pairs)
                values[who] = max(value, values.get(who, 0.0))
            elif match is not None:
                shown = match[2][:32].decode("utf-8", "replace")
                self._drop(f"{gauge.name} must be a number from 0 to {ceiling:g}, got {shown!r}")

    def _found(self, alternatives: tuple[Gauge, ...]) -> list[float] | None:
        """The usable values of the first gauge that is on the page; None when none is."""
        gauge = next((gauge for gauge in alternatives if gauge in self._values), None)
        return None if gauge is None else list(self._values[gauge].values())

    def _drop(self, why: str) -> None:
        self.dropped = DroppedSamples(self.dropped.samples + 1, self.dropped.example or why)


def scan(body: bytes, engine: str, now: float) -> Load:
    """The load on a whole page at once; raises as `PageScan`."""
    page = PageScan(engine)
    page.take(body)
    return page.load(now)


def _owner(labels: bytes, pairs: list[bytes]) -> bytes:
    """The labels without the ranks that share the work of one replica."""
    if b"rank" not in labels:
        return labels
    return b",".join(pair for pair in pairs if not _SHARED_RANK.fullmatch(pair))


def _total(values: list[float] | None) -> float:
    return math.fsum(values) if values else math.nan


def _missing(engine: str, alternatives: tuple[Gauge, ...]) -> str:
    names = " or ".join(
        f"{gauge.name}{{{gauge.label}}}" if gauge.label else gauge.name for gauge in alternatives
    )
    return f"no {names} on the page: is this a {engine} server with metrics enabled?"

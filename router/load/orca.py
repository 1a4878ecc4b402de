"""Open Request Cost Aggregation: what a backend says that one request cost it, and of its load.

Reads the trailers ``endpoint-load-metrics-bin`` (a serialized xds.data.orca.v3.OrcaLoadReport)
and ``endpoint-load-metrics`` (``TEXT``, ``JSON`` or ``BIN`` form). The binary form is scanned by
hand: a report is a hundred bytes of which a few numbers matter.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from router.contract import BackendReport, Metadata, StatedLoad
from router.load.bounds import KV_CEILING, MOST_REQUESTS

BINARY_KEY = "endpoint-load-metrics-bin"
TEXT_KEY = "endpoint-load-metrics"

# A report names a handful of metrics; anything longer is not worth the event loop's time.
MAX_BYTES = 4 * 1024

# Named metrics that are load. The header of vLLM has queue and cache, of one engine where it runs
# several; Triton with TensorRT-LLM calls the cache ``kv_cache_utilization``.
_RUNNING, _QUEUED = b"num_requests_running", b"num_requests_waiting"
_KV, _TRITON_KV = b"kv_cache_usage_perc", b"kv_cache_utilization"

_REQUEST_COST = 4
_NAMED_METRICS = 8

_DOUBLE = struct.Struct("<d")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


NOTHING = BackendReport(math.nan, math.nan, math.nan)
UNREADABLE = NOTHING._replace(malformed=True)


class MalformedReportError(ValueError):
    """The value is no report. OrcaReader turns it into UNREADABLE and a count."""


class OrcaMetrics(NamedTuple):
    """The two maps of a report that may hold what is wanted, by metric name."""

    request_cost: dict[bytes, float]
    named_metrics: dict[bytes, float]


class OrcaReader:
    """Reads ORCA trailers and counts what it could not use; never raises.

    Of the report's ``request_cost``, else its ``named_metrics``, it takes ``energy_j`` (> 0),
    ``marginal_energy_j``, ``output_tokens`` and ``cached_tokens`` (>= 0). Of ``named_metrics``
    alone, the server's load, within the bounds that hold for a metrics page as well.
    """

    def __init__(self, on_malformed: Callable[[], None] | None = None) -> None:
        self.malformed = 0
        self._on_malformed = on_malformed

    def read(self, trailers: Metadata) -> BackendReport:
        """The report in ``trailers``; NOTHING when there is none, UNREADABLE when it is none."""
        for key, value in trailers:
            if key == BINARY_KEY:
                return self._parse(parse_binary, value)
            if key == TEXT_KEY:
                return self._parse(parse_text, value)
        return NOTHING

    def _parse(
        self, parse: Callable[[str | bytes], OrcaMetrics], value: str | bytes
    ) -> BackendReport:
        before = self.malformed
        try:
            figures = parse(value)
        except MalformedReportError:
            self._count()
            return UNREADABLE
        energy_j = self._figure(figures, b"energy_j")
        # No request is served without energy: a zero is a counter that nobody filled in.
        if energy_j == 0.0:
            self._count()
            energy_j = math.nan
        return BackendReport(
            energy_j,
            self._figure(figures, b"marginal_energy_j"),
            self._figure(figures, b"output_tokens"),
            cached_tokens=self._figure(figures, b"cached_tokens"),
            malformed=self.malformed > before,
            load=self._load(figures.named_metrics),
        )

    def _load(self, named: dict[bytes, float]) -> StatedLoad | None:
        """None where no figure of it can be used."""
        if not named:
            return None
        running = self._gauge(named, _RUNNING, MOST_REQUESTS)
        queued = self._gauge(named, _QUEUED, MOST_REQUESTS)
        kv_fraction = self._gauge(named, _KV, KV_CEILING)
        if kv_fraction != kv_fraction:
            kv_fraction = self._gauge(named, _TRITON_KV, KV_CEILING)
        if running != running and queued != queued and kv_fraction != kv_fraction:
            return None
        return StatedLoad(running, queued, 1.0 if kv_fraction > 1.0 else kv_fraction)

    def _gauge(self, named: dict[bytes, float], key: bytes, ceiling: float) -> float:
        value = named.get(key)
        if value is None:
            return math.nan
        if 0.0 <= value <= ceiling:
            return value
        self._count()
        return math.nan

    def _figure(self, figures: OrcaMetrics, key: bytes) -> float:
        value = figures.request_cost.get(key)
        if value is None:
            value = figures.named_metrics.get(key)
            if value is None:
                return math.nan
        if 0.0 <= value < math.inf:
            return value
        self._count()
        return math.nan

    def _count(self) -> None:
        self.malformed += 1
        if self._on_malformed is not None:
            self._on_malformed()


def parse_binary(value: str | bytes) -> OrcaMetrics:
    """A serialized OrcaLoadReport; a str is its base64 form (as HTTP carries it).

    Raises MalformedReportError. Repeated keys: the last one counts, as in protobuf.
    """
    data = _unbase64(value) if isinstance(value, str) else value
    if len(data) > MAX_BYTES:
        raise MalformedReportError("too long")
    figures = OrcaMetrics({}, {})
    for number, wire, payload in _fields(data):
        if wire == _BYTES and number in (_REQUEST_COST, _NAMED_METRICS):
            key, figure = _entry(payload)
            (figures.request_cost if number == _REQUEST_COST else figures.named_metrics)[key] = (
                figure
            )
    return figures


def parse_text(value: str | bytes) -> OrcaMetrics:
    """``TEXT map.name=1.5, ...``, ``JSON {"map": {"name": 1.5}}`` or ``BIN base64``.

    Raises MalformedReportError.
    """
    if len(value) > MAX_BYTES:
        raise MalformedReportError("too long")
    try:
        text = value if isinstance(value, str) else value.decode("ascii")
    except UnicodeDecodeError as error:
        raise MalformedReportError("not ASCII") from error
    form, _, rest = text.partition(" ")
    if form == "TEXT":
        return _parse_pairs(rest)
    if form == "JSON":
        return _parse_json(rest)
    if form == "BIN":
        return parse_binary(rest.strip())
    raise MalformedReportError("form must be TEXT, JSON or BIN")


def _parse_pairs(text: str) -> OrcaMetrics:
    figures = OrcaMetrics({}, {})
    maps = {"request_cost": figures.request_cost, "named_metrics": figures.named_metrics}
    for pair in text.split(","):
        if not pair.strip():
            continue
        name, equals, number = pair.partition("=")
        if not equals:
            raise MalformedReportError("expected name=value")
        try:
            figure = float(number)
        except ValueError as error:
            raise MalformedReportError("a value is no number") from error
        group, _, key = name.strip().partition(".")
        if group in maps:
            maps[group][key.encode(errors="replace")] = figure
    return figures


def _parse_json(text: str) -> OrcaMetrics:
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedReportError("not JSON") from error
    if not isinstance(report, dict):
        raise MalformedReportError("not a JSON object")
    return OrcaMetrics(
        _json_map(report, "request_cost", "requestCost"),
        _json_map(report, "named_metrics", "namedMetrics"),
    )


def _json_map(report: dict[str, object], *names: str) -> dict[bytes, float]:
    figures: dict[bytes, float] = {}
    for name in names:
        group = report.get(name, {})
        if not isinstance(group, dict):
            raise MalformedReportError(f"{name} is not a JSON object")
        for key, figure in group.items():
            if isinstance(figure, bool) or not isinstance(figure, int | float):
                raise MalformedReportError("a value is no number")
            try:
                figures[key.encode(errors="replace")] = float(figure)
            except OverflowError as error:
                raise MalformedReportError("a value is out of range") from error
    return figures


def _unbase64(text: str) -> bytes:
    if len(text) > MAX_BYTES * 2:
        raise MalformedReportError("too long")
    try:
        # gRPC over HTTP leaves the padding out.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedReportError("not base64") from error


def _entry(data: bytes) -> tuple[bytes, float]:
    """One map<string, double> entry: key = 1, value = 2; an absent half is empty or 0."""
    # Every encoder writes key, then value: 0x0a length key 0x11 eight bytes.
    if len(data) > 10 and data[0] == 0x0A:
        stop = data[1] + 2
        if data[1] < 0x80 and len(data) == stop + 9 and data[stop] == 0x11:
            return data[2:stop], _DOUBLE.unpack_from(data, stop + 1)[0]
    key, figure = b"", 0.0
    for number, wire, payload in _fields(data):
        if number == 1 and wire == _BYTES:
            key = payload
        elif number == 2 and wire == _FIXED64:
            figure = _DOUBLE.unpack(payload)[0]
    return key, figure


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(field number, wire type, payload) of one message; the payload of a varint is empty."""
    position, end = 0, len(data)
    while position < end:
        # One-byte tags and lengths, by far the usual ones, are read in place: a call costs more.
        tag, position = data[position], position + 1
        if tag >= 0x80:
            tag, position = _varint(data, position - 1, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise MalformedReportError("field number 0")
        start = position
        if wire == _BYTES:
            if position < end and data[position] < 0x80:
                start = position + 1
                position = start + data[position]
            else:
                length, start = _varint(data, position, end)
                position = start + length
        elif wire == _FIXED64:
            position += 8
        elif wire == _VARINT:
            _, position = _varint(data, position, end)
            start = position
        elif wire == _FIXED32:
            position += 4
        else:
            raise MalformedReportError(f"wire type {wire}")
        if position > end:
            raise MalformedReportError("cut off")
        yield number, wire, data[start:position]


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise MalformedReportError("cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise MalformedReportError("varint longer than ten bytes")

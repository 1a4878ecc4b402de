"""What servers of OpenAI's and Anthropic's APIs say of a request: usage, energy, times, failures.

Usage in the field names of both, as vLLM, SGLang, TensorRT-LLM, llama.cpp and TGI fill them in.
Energy in the Green Web Foundation's draft (``usage.energy.joules``) and Neuralwatt's shape
(``energy.energy_joules``), inside an answer or in a comment of its stream. Where its time went as
vLLM (``metrics``, with ``--enable-per-request-metrics``) and llama.cpp (``timings``) say it.
Nothing is decoded but what may hold a figure.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import msgspec

from router.contract import UNTIMED, AnswerSize, BackendReport, Metadata, StatedTimes
from router.errors import (
    UpstreamBusyError,
    UpstreamError,
    UpstreamFaultError,
    UpstreamInternalError,
)
from router.http_api import BODY, END, ENERGY, USAGE, StatedError, stated_error
from router.load.orca import NOTHING, OrcaReader

# An answer that is longer is not decoded as a whole: 20 us for each 64 KiB (Python 3.11, 2 GHz).
# Of a longer one, such as embeddings, usage is looked for where servers write it: at the end.
_WHOLE_BYTES: Final = 256 * 1024
_END_BYTES: Final = 4 * 1024
# Of what is kept of a stream (router.backends.openai.events).
_EVENT_BYTES: Final = 64 * 1024
_ERROR_BYTES: Final = 64 * 1024

_INPUT: Final = ("prompt_tokens", "input_tokens")
_OUTPUT: Final = ("completion_tokens", "output_tokens")
_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
# Anthropic's count of input leaves these out.
_CACHE_READ: Final = "cache_read_input_tokens"
_BESIDE_INPUT: Final = (_CACHE_READ, "cache_creation_input_tokens")
_JOULES: Final = ("joules", "energy_joules")
# vLLM's time to the first token begins when the queue ends (0.32, entrypoints/generate/base/
# serving.py), whatever its name says; llama.cpp's have no queue.
_QUEUE: Final = ("queue_time_ms",)
_READING: Final = ("time_to_first_token_ms", "prompt_ms")
_DECODING: Final = ("generation_time_ms", "predicted_ms")

_DATA: Final = re.compile(rb"^data: ?(.*?)\r?$", re.MULTILINE)
# An event that is an error; llama.cpp's of 2024 had a field of that name.
_ERROR_EVENT: Final = re.compile(
    rb"^(?:event: ?error\r?\n(?:data: ?([^\r\n]*))?"
    rb'|(?:data|error): ?(\{\s*"error"\s*:\s*["{][^\r\n]*)'
    rb"|error: ?(\{[^\r\n]*))",
    re.MULTILINE,
)
_ERROR_BODY: Final = re.compile(
    rb'\s*\{\s*"(?:error"\s*:\s*["{]|object"\s*:\s*"error"|type"\s*:\s*"error")'
)
# A count, or Anthropic's word, inside an answer under status 200.
_BUSY: Final = frozenset(("429", "498", "529", "overloaded_error", "rate_limit_error"))
_FAULT: Final = frozenset(("502", "503", "504"))
_MAX_TEXT: Final = 500


_ABSENT: Final = msgspec.Raw(b"")


class _Answer(msgspec.Struct):
    """What of an answer, or of an event of one, may hold a figure."""

    usage: Any = None
    energy: Any = None
    metrics: Any = None
    timings: Any = None
    message: msgspec.Raw = _ABSENT
    response: msgspec.Raw = _ABSENT
    # One of them is the answer's output.
    choices: msgspec.Raw = _ABSENT
    output: msgspec.Raw = _ABSENT
    content: msgspec.Raw = _ABSENT
    data: msgspec.Raw = _ABSENT


_ANSWER: Final = msgspec.json.Decoder(_Answer)


class HttpReports(OrcaReader):
    """A ReportReader: usage and energy in answers, beside the ORCA fields of a response."""

    def read(self, trailers: Metadata) -> BackendReport:
        """Energy of the ORCA field goes before that of usage; counts of usage before ORCA's."""
        if not trailers:
            return NOTHING
        stated = super().read(trailers)
        figures = _Figures()
        for key, value in trailers:
            if isinstance(value, str) or key not in (USAGE, END, ENERGY):
                continue
            if key == ENERGY:
                figures.take_comment(value)
            elif key == USAGE or not figures.found:
                figures.take_event(value)
        if not (figures.found or figures.malformed):
            return stated
        energy_j = stated.energy_j
        if energy_j != energy_j:
            energy_j = figures.energy_j()
        output_tokens, cached_tokens = figures.output_tokens(), figures.cached_tokens()
        report = BackendReport(
            energy_j,
            stated.marginal_energy_j,
            output_tokens if output_tokens == output_tokens else stated.output_tokens,
            cached_tokens=cached_tokens if cached_tokens == cached_tokens else stated.cached_tokens,
            input_tokens=figures.input_tokens(),
            malformed=stated.malformed or figures.malformed > 0,
            load=stated.load,
            times=figures.times(),
        )
        # `output_tokens` and its like count, too, what they could not use.
        if figures.malformed:
            self._count()
            return report._replace(malformed=True)
        return report

    def failure(self, message: bytes, streamed: bool) -> UpstreamError | None:
        """Of whole events, ``streamed``, or of one JSON answer."""
        # What answers a request for a stream may be no stream.
        if streamed and not message.startswith(b"{"):
            return _failure_in_stream(message) if b"error" in message else None
        if not _ERROR_BODY.match(message) or len(message) > _ERROR_BYTES:
            return None
        stated = stated_error(message)
        return _failure(stated, message) if stated is not None else None

    def pieces(self, message: bytes) -> int:
        """Events with output: those named ``...delta``, where events have names; else all data."""
        if message.startswith(b"data:"):
            # Streams have names for all of their events, or for none.
            return 1 + message.count(b"\ndata:")
        if message.startswith(b"event:") or b"\nevent:" in message:
            # JSON has no bare line feed: these are ends of names.
            deltas = message.count(b"delta\n") + message.count(b"delta\r\n")
            # The last of Anthropic's states usage; one that is cut off has no end of its name.
            return max(0, deltas - message.count(b"event: message_delta"))
        # Of anything else the pieces are those of the network.
        return message.count(b"\ndata:") + message.startswith(b"data:")

    def size(self, message: bytes, streamed: bool) -> AnswerSize:
        """Of one JSON answer; of a stream nothing before its end."""
        if streamed or not message:
            return AnswerSize(math.nan, math.nan)
        figures = _Figures()
        output = figures.take_answer(message)
        return AnswerSize(
            float(output or len(message)),
            figures.output_tokens(),
            figures.cached_tokens(),
            figures.input_tokens(),
            figures.times(),
        )


class _Figures:
    """Gathers what several events state: of one figure the latest counts.

    ``found``: whether any did; ``malformed``: how many figures, or events, were none.
    """

    __slots__ = ("_cached", "_energy", "_times", "_usage", "found", "malformed")

    def __init__(self) -> None:
        self._usage: dict[str, Any] = {}
        self._energy: Any = None
        self._cached: Any = None
        self._times: dict[str, Any] | None = None
        self.found = False
        self.malformed = 0

    def take_event(self, event: bytes) -> None:
        """One event of a stream; an answer in one piece where it is no event."""
        if len(event) > _EVENT_BYTES:
            return
        if event[:1] == b"{":
            self.take_answer(event)
            return
        for data in _DATA.findall(event):
            if data.startswith(b"{"):
                self.take_answer(data)

    def take_answer(self, body: bytes) -> int:
        """A JSON answer. Returns the bytes of its output, 0 where that is not told apart."""
        whole = len(body) <= _WHOLE_BYTES
        try:
            answer = _ANSWER.decode(body if whole else _last_usage(body))
            self._take(answer)
            for inner in (answer.message, answer.response):
                if bytes(memoryview(inner)[:1]) == b"{":
                    self._take(_ANSWER.decode(inner))
        except (ValueError, RecursionError):
            # Of a body that is no JSON nothing was promised.
            self.malformed += whole
            return 0
        if not whole:
            return 0
        for output in (answer.choices, answer.output, answer.content, answer.data):
            if output is not _ABSENT:
                return len(memoryview(output))
        return 0

    def take_comment(self, said: bytes) -> None:
        """The JSON of a comment ``: energy``."""
        try:
            energy = msgspec.json.decode(said)
        except (ValueError, RecursionError):
            self.malformed += 1
            return
        if isinstance(energy, dict):
            self.found = True
            inner = energy.get("energy")
            self._energy = inner if isinstance(inner, dict) else energy

    def output_tokens(self) -> float:
        """NaN where nothing usable was stated, as of the other figures."""
        return self._number(_first(self._usage, _OUTPUT))

    def cached_tokens(self) -> float:
        """Tokens of the prompt that were not read."""
        stated = self._usage.get(_CACHE_READ)
        if stated is None:
            details = _first(self._usage, _DETAILS)
            stated = details.get("cached_tokens") if isinstance(details, dict) else None
        return self._number(self._cached if stated is None else stated)

    def input_tokens(self) -> float:
        """Of the whole prompt."""
        tokens = self._number(_first(self._usage, _INPUT))
        for name in _BESIDE_INPUT:
            beside = self._usage.get(name)
            if beside is not None:
                tokens += self._number(beside)
        return tokens

    def energy_j(self) -> float:
        """Joules; no request is served without: a zero is a counter that nobody filled in."""
        energy = self._energy
        if not isinstance(energy, dict) or energy.get("measurement_available") is False:
            return math.nan
        joules = self._number(_first(energy, _JOULES))
        if joules == 0.0:
            self.malformed += 1
            return math.nan
        return joules

    def times(self) -> StatedTimes:
        """Where the request's time went."""
        said = self._times
        if said is None:
            return UNTIMED
        names = (_QUEUE, _READING, _DECODING)
        return StatedTimes(*(self._number(_first(said, one)) for one in names))

    def _take(self, answer: _Answer) -> None:
        usage, energy = answer.usage, answer.energy
        if isinstance(usage, dict):
            self.found = True
            for key, value in usage.items():
                if value is not None:
                    self._usage[key] = value
            if isinstance(usage.get("energy"), dict):
                energy = usage["energy"]
        elif usage is not None:
            self.malformed += 1
        if isinstance(energy, dict):
            self.found = True
            self._energy = energy
        if isinstance(answer.timings, dict):
            self.found = True
            # llama.cpp's.
            self._cached = answer.timings.get("cache_n", self._cached)
            self._times = answer.timings
        if isinstance(answer.metrics, dict):
            self.found = True
            self._times = answer.metrics

    def _number(self, value: object) -> float:
        if value is None:
            return math.nan
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if 0.0 <= number < math.inf:
                return number
        self.malformed += 1
        return math.nan


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The first of these fields that is there."""
    for name in names:
        value = fields.get(name)
        if value is not None:
            return value
    return None


def _last_usage(body: bytes) -> bytes:
    """``{"usage": ...}`` at the end of a body."""
    at = body.rfind(b'"usage"', len(body) - _END_BYTES)
    if at < 0:
        return b"{}"
    # The answer's own closing brace may come after other fields.
    return b"{" + body[at:]


def _failure_in_stream(message: bytes) -> UpstreamError | None:
    found = _ERROR_EVENT.search(message)
    if found is None:
        return None
    said = (found[1] or found[2] or found[3] or b"")[:_ERROR_BYTES]
    stated = stated_error(said)
    if stated is None and found[3] is not None:
        stated = stated_error(b'{"error":' + said + b"}")
    return _failure(stated or StatedError("", "", ""), said)


def _failure(stated: StatedError, body: bytes = b"") -> UpstreamError:
    said = {stated.code, stated.kind}
    message = stated.message or "the server ended the answer with an error"
    if said & _BUSY:
        return UpstreamBusyError(message[:_MAX_TEXT])
    if said & _FAULT:
        return UpstreamFaultError(message[:_MAX_TEXT])
    return UpstreamInternalError(message, trailers=((BODY, body),) if body else ())

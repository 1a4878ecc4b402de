"""What a server's page says of the work that it did since it began: iterations, prompts, answers.

Counters as the engines name them. vLLM counts an iteration where at least one answer got a token;
SGLang counts none. TGI counts a request's tokens when it ends, and the time of its batches. Triton
knows requests alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from router.load.samples import PageSample, SampleScan


class Counter(NamedTuple):
    """``label``: a name and value that a sample must have."""

    name: str
    label: tuple[str, str] | None = None


class WorkNames(NamedTuple):
    """Of several alternatives the first one on the page counts; ``cached``: of prompts, not read,
    where ``prompts`` has them. ``busy``: seconds."""

    answers: tuple[Counter, ...] = ()
    prompts: tuple[Counter, ...] = ()
    cached: tuple[Counter, ...] = ()
    iterations: tuple[Counter, ...] = ()
    busy: tuple[Counter, ...] = ()
    running: tuple[Counter, ...] = ()
    requests: tuple[Counter, ...] = ()


_SHARED: Final = re.compile(r"(?!(?:attn_)?(?:dp|data_parallel)_rank$)\w*rank")
_COMPUTED: Final = Counter("vllm:prompt_tokens_by_source_total", ("source", "local_compute"))

_VLLM: Final = WorkNames(
    answers=(Counter("vllm:generation_tokens_total"),),
    prompts=(_COMPUTED, Counter("vllm:prompt_tokens_total")),
    cached=(
        Counter("vllm:prompt_tokens_cached_total"), Counter("vllm:prefix_cache_hits_total"),
    ),
    iterations=(Counter("vllm:iteration_tokens_total_count"),),
    running=(Counter("vllm:num_requests_running"),),
)  # fmt: skip

WORK: Final[Mapping[str, WorkNames]] = {
    "vllm": _VLLM,
    # In its first versions without the prefix.
    "nim": _VLLM._replace(
        answers=(*_VLLM.answers, Counter("generation_tokens_total")),
        prompts=(*_VLLM.prompts, Counter("prompt_tokens_total")),
        running=(*_VLLM.running, Counter("num_requests_running")),
    ),
    "sglang": WorkNames(
        answers=(Counter("sglang:generation_tokens_total"),),
        prompts=(Counter("sglang:prompt_tokens_total"),),
        cached=(Counter("sglang:cached_tokens_total"),),
        running=(Counter("sglang:num_running_reqs"),),
    ),
    "llamacpp": WorkNames(
        answers=(Counter("llamacpp:tokens_predicted_total"),),
        prompts=(Counter("llamacpp:prompt_tokens_total"),),
        iterations=(Counter("llamacpp:n_decode_total"),),
        running=(Counter("llamacpp:requests_processing"),),
    ),
    "tgi": WorkNames(
        answers=(Counter("tgi_request_generated_tokens_sum"),),
        prompts=(Counter("tgi_request_input_length_sum"),),
        iterations=(Counter("tgi_batch_inference_duration_count"),),
        busy=(Counter("tgi_batch_inference_duration_sum"),),
        running=(Counter("tgi_batch_current_size"),),
    ),
    "triton": WorkNames(requests=(Counter("nv_inference_request_success"),)),
}  # fmt: skip


class WorkCounters(NamedTuple):
    """Since the server began, but for ``running``, which is of now; NaN where it does not tell."""

    answer_tokens: float = math.nan
    prompt_tokens: float = math.nan
    iterations: float = math.nan
    busy_s: float = math.nan
    requests: float = math.nan
    running: float = math.nan


class WorkScan:
    """Reads one page of ``engine``, piece by piece."""

    def __init__(self, engine: str) -> None:
        """Raises KeyError for an engine that is not of WORK."""
        self._names = WORK[engine]
        self._scan = SampleScan(counter.name for group in self._names for counter in group)

    def take(self, piece: bytes) -> None:
        """The next bytes of the page."""
        self._scan.take(piece)

    def counters(self) -> WorkCounters:
        """What the page says, added up over models and ranks of data parallelism; one that has a
        sample which cannot be used is not known."""
        names, by_name = self._names, _by_name(self._scan.samples)
        prompts, cached = _total(by_name, names.prompts), _total(by_name, names.cached)
        is_read = _COMPUTED in names.prompts and not math.isnan(_total(by_name, (_COMPUTED,)))
        if not math.isnan(cached) and not is_read:
            prompts -= cached
        return WorkCounters(
            answer_tokens=_total(by_name, names.answers),
            prompt_tokens=prompts,
            iterations=_total(by_name, names.iterations),
            busy_s=_total(by_name, names.busy),
            requests=_total(by_name, names.requests),
            running=_total(by_name, names.running),
        )


def _by_name(samples: list[PageSample]) -> Mapping[str, list[PageSample]]:
    found: dict[str, list[PageSample]] = {}
    for sample in samples:
        found.setdefault(sample.name, []).append(sample)
    return found


def _total(samples: Mapping[str, list[PageSample]], counters: tuple[Counter, ...]) -> float:
    for counter in counters:
        values: dict[tuple[tuple[str, str], ...], float] = {}
        for sample in samples.get(counter.name, ()):
            if counter.label is not None and counter.label not in sample.labels.items():
                continue
            # Ranks that share the work of one replica all tell the same; others add up.
            who = tuple(
                one for one in sorted(sample.labels.items()) if not _SHARED.fullmatch(one[0])
            )
            values[who] = max(sample.value, values.get(who, sample.value))
        if values:
            usable = all(0.0 <= value < math.inf for value in values.values())
            return math.fsum(values.values()) if usable else math.nan
    return math.nan

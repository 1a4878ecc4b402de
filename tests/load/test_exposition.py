"""The byte scan agrees with prometheus_client's parser, and leaves out what it cannot trust."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from router.config.endpoints import Engine as Word
from router.errors import DataError
from router.load.exposition import ENGINES, Engine, PageScan, scan
from router.load.exposition import Gauge as Wanted
from router.load.samples import MOST_SAMPLES
from router.model import Load

VLLM_PAGE = Path(__file__).parents[3] / "shared/data/fixtures/vllm-0.32-metrics.txt"

PAGES = {
    "vllm": b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a"} 4.0
vllm:num_requests_running{engine="1",model_name="a"} 3.0
vllm:num_requests_waiting{engine="0",model_name="a"} 1.0
vllm:num_requests_waiting{engine="1",model_name="a"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a",reason="capacity"} 70.0
vllm:kv_cache_usage_perc{engine="0",model_name="a"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a"} 0.5
""",
    "nim": b"""num_requests_running{model_name="m"} 7.0
num_requests_waiting{model_name="m"} 3.0
num_request_max{model_name="m"} 256.0
gpu_cache_usage_perc{model_name="m"} 0.5
""",
    "sglang": b"""sglang:num_running_reqs{model_name="m"} 7.0
sglang:num_running_reqs_offline_batch{model_name="m"} 90.0
sglang:num_queue_reqs{model_name="m"} 3.0
sglang:token_usage{model_name="m"} 0.5
""",
    "trtllm": b"""trtllm_num_requests_running 7
trtllm_num_requests_waiting 3
trtllm_kv_cache_utilization 0.5
""",
    "tgi": b"""tgi_queue_size 3
tgi_batch_current_size 7
tgi_batch_current_max_tokens 16000
""",
    "llamacpp": b"""llamacpp:requests_processing 7
llamacpp:requests_deferred 3
llamacpp:n_busy_slots_per_decode 1.5
""",
}


def same(left: Load, right: Load) -> bool:
    return all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(left, right, strict=True)
    )


def naive(page: bytes, engine: str, now: float) -> Load:
    """The same reading by prometheus_client's own parser: slow and obvious."""
    samples = [
        sample
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    ]

    def values(alternatives: tuple[Wanted, ...]) -> list[float]:
        for wanted in alternatives:
            label, _, value = wanted.label.partition("=")
            found = [
                s.value
                for s in samples
                if s.name == wanted.name and (not label or s.labels.get(label) == value.strip('"'))
            ]
            if found:
                return found
        return []

    spec: Engine = ENGINES[engine]
    return Load(
        sum(values(spec.running)) if values(spec.running) else math.nan,
        sum(values(spec.queued)) if values(spec.queued) else math.nan,
        max(values(spec.kv), default=math.nan),
        now,
    )


@pytest.mark.parametrize("engine", sorted(PAGES))
def test_each_engine_agrees_with_the_reference_parser(engine: str) -> None:
    reading = scan(PAGES[engine], engine, 12.0)
    assert same(reading, naive(PAGES[engine], engine, 12.0))
    assert (reading.running, reading.queued, reading.observed_at) == (7.0, 3.0, 12.0)


def test_every_dialect_has_a_word_in_the_configuration() -> None:
    assert set(get_args(Word)) == ENGINES.keys() >= PAGES.keys()


def test_a_real_vllm_page_agrees_with_the_reference_parser() -> None:
    if not VLLM_PAGE.exists():
        pytest.skip(f"LOUD: no saved page of a real vLLM server at {VLLM_PAGE}")
    page = VLLM_PAGE.read_bytes()
    reading = scan(page, "vllm", 1.0)
    assert same(reading, naive(page, "vllm", 1.0))
    assert reading.running == 4.0
    assert 0.0 < reading.kv_fraction < 0.02


def test_several_models_add_up_and_the_fullest_cache_counts() -> None:
    assert scan(PAGES["vllm"], "vllm", 0.0) == Load(7.0, 3.0, 0.5, 0.0)


def test_a_queue_by_reason_counts_only_where_the_whole_of_it_is_not_told() -> None:
    line = b'vllm:num_requests_waiting_by_reason{engine="0",reason="%b"} %d\n'
    reasons = line % (b"capacity", 2) + line % (b"deferred", 1)
    beside = PAGES["vllm"] + reasons
    assert scan(beside, "vllm", 0.0).queued == 3.0
    alone = b"vllm:num_requests_running 7\n" + reasons
    assert scan(alone, "vllm", 0.0)[:2] == (7.0, 3.0)


def test_nim_has_the_names_of_vllm_with_and_without_their_prefix() -> None:
    assert scan(PAGES["vllm"], "nim", 0.0) == scan(PAGES["vllm"], "vllm", 0.0)
    assert scan(PAGES["nim"], "nim", 0.0)[:3] == (7.0, 3.0, 0.5)


@pytest.mark.parametrize(
    ("engines", "healthy"),
    [([], True), ([1], True), ([0], False), ([0, 1], True), ([0, 0], False)],
)
def test_a_vllm_server_is_out_once_all_of_its_engines_are(
    engines: list[int], healthy: bool
) -> None:
    page = PAGES["vllm"] + b"".join(
        b'vllm:engine_healthy{engine="%d"} %d\n' % engine for engine in enumerate(engines)
    )
    assert scan(page, "vllm", 0.0).healthy is healthy
    assert scan(page, "nim", 0.0).healthy is healthy


def test_a_state_of_engines_that_is_no_number_is_unknown() -> None:
    page = PAGES["vllm"] + b'vllm:engine_healthy{engine="0"} NaN\n'
    assert scan(page, "vllm", 0.0).healthy


def test_old_vllm_name_of_the_cache_gauge() -> None:
    page = PAGES["vllm"].replace(b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc")
    assert scan(page, "vllm", 0.0).kv_fraction == 0.5


def test_a_server_without_a_cache_gauge_has_an_unknown_cache_not_an_empty_one() -> None:
    for engine in ("tgi", "llamacpp"):
        assert math.isnan(scan(PAGES[engine], engine, 0.0).kv_fraction)


def test_plain_triton_has_no_gauge_of_running_requests() -> None:
    page = b"""nv_inference_exec_count{model="a",version="1"} 90210
nv_inference_pending_request_count{model="a",version="1"} 2
nv_inference_pending_request_count{model="b",version="1"} 3
"""
    reading = scan(page, "triton", 0.0)
    assert reading.queued == 5.0
    assert math.isnan(reading.running)
    assert math.isnan(reading.kv_fraction)


def test_triton_with_trtllm_prefers_the_engines_own_figures() -> None:
    page = b"""nv_inference_pending_request_count{model="ensemble",version="1"} 40
nv_trt_llm_request_metrics{model="llm",request_type="waiting",version="1"} 2
nv_trt_llm_request_metrics{model="llm",request_type="scheduled",version="1"} 11
nv_trt_llm_request_metrics{model="llm",request_type="max",version="1"} 512
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="llm",version="1"} 0.75
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="llm",version="1"} 6239
"""
    assert scan(page, "triton", 0.0) == Load(11.0, 2.0, 0.75, 0.0)
    assert same(scan(page, "triton", 0.0), naive(page, "triton", 0.0))


@pytest.mark.parametrize("engine", sorted(PAGES))
@pytest.mark.parametrize("kind", ["queued", "running"])
def test_a_missing_gauge_is_an_error_and_names_it(engine: str, kind: str) -> None:
    names = [
        gauge.name
        for gauge in (ENGINES[engine].queued if kind == "queued" else ENGINES[engine].running)
    ]
    starts = tuple(f"{name}{end}".encode() for name in names for end in " {")
    kept = [line for line in PAGES[engine].splitlines(keepends=True) if not line.startswith(starts)]
    with pytest.raises(DataError, match=" or ".join(names)):
        scan(b"".join(kept), engine, 0.0)


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (b"", "cut off"),
        (b"tgi_queue_size 3\ntgi_batch_current_size 4", "cut off"),
        (b"tgi_queue_size NaN\ntgi_batch_current_size -4\n", "no usable count"),
        (b"<html>tgi_queue_size 3</html>\n", "no tgi_queue_size"),
    ],
)
def test_an_unusable_page_is_an_error_never_a_zero(page: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        scan(page, "tgi", 0.0)


BROKEN = (
    *(b" NaN", b" +Inf", b" -1", b" 1_0", b" three", b" 1e308", b" 2000001"),
    *(b'{a="b 3', b" ", b'{a="b"}', b'{a="b"} x'),
)


@pytest.mark.parametrize("tail", BROKEN)
def test_a_broken_gauge_costs_itself_and_not_the_page(tail: bytes) -> None:
    page = PageScan("tgi")
    page.take(b"tgi_queue_size" + tail + b"\ntgi_batch_current_size 4\n")
    load = page.load(0.0)
    assert load.running == 4.0 and math.isnan(load.queued)
    assert page.dropped.samples == 1 and "tgi_queue_size" in page.dropped.example


@pytest.mark.parametrize("tail", BROKEN)
def test_of_two_models_the_one_with_a_sound_gauge_counts(tail: bytes) -> None:
    page = PAGES["vllm"] + b"vllm:num_requests_running" + tail + b"\n"
    assert scan(page, "vllm", 0.0) == Load(7.0, 3.0, 0.5, 0.0)


@pytest.mark.parametrize("value", [b"NaN", b"50.0", b"-0.1"])
def test_a_cache_that_is_no_fraction_is_unknown(value: bytes) -> None:
    page = PAGES["sglang"].replace(b'token_usage{model_name="m"} 0.5', b"token_usage " + value)
    load = scan(page, "sglang", 0.0)
    assert (load.running, load.queued) == (7.0, 3.0) and math.isnan(load.kv_fraction)


RANKS = ("tp_rank", "pp_rank", "cp_rank", "moe_ep_rank", "attn_tp_rank", "rank")


@given(
    dp=st.integers(1, 4),
    shared=st.dictionaries(st.sampled_from(RANKS), st.integers(1, 3), max_size=3),
    models=st.lists(st.integers(0, 50), min_size=1, max_size=3),
)
def test_ranks_that_share_requests_count_once_and_data_parallel_ones_add_up(
    dp: int, shared: dict[str, int], models: list[int]
) -> None:
    lines = ["sglang:num_queue_reqs 0"]
    for model, replica in product(range(len(models)), range(dp)):
        for ranks in product(*(range(size) for size in shared.values())):
            labels = [f'{name}="{rank}"' for name, rank in zip(shared, ranks, strict=True)]
            labels += [f'dp_rank="{replica}"', f'model_name="{model}, tp_rank=9"']
            lines.append(f"sglang:num_running_reqs{{{','.join(labels)}}} {models[model]}")
    page = "\n".join(lines).encode() + b"\n"
    assert scan(page, "sglang", 0.0).running == dp * sum(models)


def test_prefill_and_decode_of_one_server_add_up() -> None:
    page = b"""sglang:num_running_reqs{engine_type="prefill",tp_rank="0"} 3
sglang:num_running_reqs{engine_type="prefill",tp_rank="1"} 3
sglang:num_running_reqs{engine_type="decode",tp_rank="0"} 5
sglang:num_queue_reqs{engine_type="decode",tp_rank="0"} 0
"""
    assert scan(page, "sglang", 0.0).running == 8.0


@given(st.lists(st.integers(1, 40), max_size=40))
def test_a_page_in_pieces_is_the_same_page(cuts: list[int]) -> None:
    page, at = PageScan("vllm"), 0
    for length in cuts:
        page.take(PAGES["vllm"][at : at + length])
        at += length
    page.take(PAGES["vllm"][at:])
    assert page.load(0.0) == scan(PAGES["vllm"], "vllm", 0.0)


def test_a_line_that_is_repeated_counts_once() -> None:
    page = b"tgi_queue_size 1\n" * (MOST_SAMPLES + 1) + b"tgi_batch_current_size 2\n"
    assert scan(page, "tgi", 0.0)[:2] == (2.0, 1.0)


def test_a_page_of_too_many_samples_or_an_endless_line_is_refused() -> None:
    with pytest.raises(DataError, match="samples"):
        scan(b"".join(b"tgi_queue_size %d\n" % i for i in range(MOST_SAMPLES + 1)), "tgi", 0.0)
    with pytest.raises(DataError, match="longer"):
        PageScan("tgi").take(b"x" * 70_000)


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="llamacpp"):
        scan(b"\n", "ollama", 0.0)


def test_timestamps_after_the_value_are_ignored() -> None:
    page = b"tgi_queue_size 3 1795303267000\ntgi_batch_current_size\t4 1795303267000\n"
    assert scan(page, "tgi", 0.0)[:2] == (4.0, 3.0)


counts = st.integers(0, 10**6).map(float) | st.floats(0, 1e6)
label_values = st.text(max_size=12) | st.sampled_from(
    ["a}b", 'x="1"', "two\nlines", "tail\\", "vllm:num_requests_running 9", "a,b"]
)


@given(
    st.dictionaries(
        label_values, st.tuples(counts, counts, st.floats(0, 1)), min_size=1, max_size=5
    )
)
def test_any_page_that_prometheus_client_writes_reads_the_same(
    models: dict[str, tuple[float, float, float]],
) -> None:
    registry = CollectorRegistry()
    noise = Histogram("vllm:num_requests_running_seconds", "noise", ["model"], registry=registry)
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    gauges = [
        Gauge(f"vllm:{name}", f"{name} of\na model", ["model"], registry=registry) for name in names
    ]
    for model, values in models.items():
        noise.labels(model).observe(values[0])
        for gauge, value in zip(gauges, values, strict=True):
            gauge.labels(model).set(value)
    page = generate_latest(registry)
    mine, twin = scan(page, "vllm", 5.0), naive(page, "vllm", 5.0)
    assert mine.running == pytest.approx(twin.running, rel=1e-12)
    assert mine.queued == pytest.approx(twin.queued, rel=1e-12)
    assert (mine.kv_fraction, mine.observed_at) == (twin.kv_fraction, twin.observed_at)


@given(
    st.sampled_from(sorted(ENGINES)),
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                b"tgi_queue_size",
                b"nv_inference_pending_request_count",
                b"{",
                b"}",
                b'"',
                b" ",
                b"\n",
                b"1",
                b"NaN",
                b"\\",
                b'request_type="waiting"',
                b"\xff",
                b"=",
            ]
        )
    ).map(b"".join),
)
def test_arbitrary_bytes_give_a_load_or_a_data_error(engine: str, page: bytes) -> None:
    try:
        reading = scan(page, engine, 0.0)
    except DataError:
        return
    assert reading.queued >= 0.0 or reading.running >= 0.0

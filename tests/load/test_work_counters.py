"""Counters in the shape in which engines write them."""

import math

import pytest

from router.load.work_counters import WorkCounters, WorkScan

VLLM = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 1000.0
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.79e+09
vllm:prompt_tokens_cached_total{engine="0",model_name="m"} 400.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 590.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_cache_hit"} 400.0
vllm:generation_tokens_total{engine="0",model_name="m"} 20.0
vllm:generation_tokens_total{engine="1",model_name="m"} 22.0
vllm:iteration_tokens_total_bucket{engine="0",le="8.0",model_name="m"} 3.0
vllm:iteration_tokens_total_sum{engine="0",model_name="m"} 150.0
vllm:iteration_tokens_total_count{engine="0",model_name="m"} 10.0
"""
SGLANG = b"""sglang:num_running_reqs{model_name="m",tp_rank="0"} 2.0
sglang:prompt_tokens_total{model_name="m",is_streaming="false"} 100.0
sglang:prompt_tokens_total{model_name="m",is_streaming="true"} 900.0
sglang:cached_tokens_total{cache_source="device",model_name="m"} 300.0
sglang:cached_tokens_total{cache_source="host",model_name="m"} 50.0
sglang:generation_tokens_total{model_name="m",tp_rank="0"} 70.0
sglang:generation_tokens_total{model_name="m",tp_rank="1"} 70.0
"""
LLAMACPP = b"""llamacpp:prompt_tokens_total 16185
llamacpp:prompt_seconds_total 13.636
llamacpp:tokens_predicted_total 394
llamacpp:n_decode_total 125
llamacpp:requests_processing 1
"""
TGI = b"""tgi_request_generated_tokens_sum 394
tgi_request_input_length_sum 2000
tgi_batch_inference_duration_sum{method="prefill"} 1.5
tgi_batch_inference_duration_sum{method="decode"} 6
tgi_batch_inference_duration_count{method="prefill"} 5
tgi_batch_inference_duration_count{method="decode"} 100
tgi_batch_current_size 4
"""
TRITON = b"""nv_inference_request_success{model="a",version="1"} 17
nv_inference_request_success{model="b",version="1"} 3
nv_energy_consumption{gpu_uuid="GPU-1"} 5.0
"""
N = math.nan


@pytest.mark.parametrize(
    ("engine", "page", "told"),
    [
        ("vllm", VLLM, WorkCounters(42.0, 590.0, 10.0, N, N, 3.0)),
        (
            "vllm",
            VLLM.replace(b"prompt_tokens_by_source_total", b"else"),
            WorkCounters(42.0, 600.0, 10.0, N, N, 3.0),
        ),
        ("sglang", SGLANG, WorkCounters(70.0, 650.0, N, N, N, 2.0)),
        ("llamacpp", LLAMACPP, WorkCounters(394.0, 16185.0, 125.0, N, N, 1.0)),
        ("tgi", TGI, WorkCounters(394.0, 2000.0, 105.0, 7.5, N, 4.0)),
        ("triton", TRITON, WorkCounters(N, N, N, N, 20.0, N)),
        ("vllm", b"", WorkCounters()),
        ("nim", VLLM, WorkCounters(42.0, 590.0, 10.0, N, N, 3.0)),
        (
            "nim",
            b"generation_tokens_total 5\nprompt_tokens_total 9\nnum_requests_running 1\n",
            WorkCounters(5.0, 9.0, N, N, N, 1.0),
        ),
    ],
)
@pytest.mark.parametrize("piece", [5, 10_000])
def test_work_is_added_up_over_models_and_not_over_shared_ranks(engine, page, told, piece):
    scan = WorkScan(engine)
    for place in range(0, len(page), piece):
        scan.take(page[place : place + piece])
    assert scan.counters() == pytest.approx(told, nan_ok=True)


@pytest.mark.parametrize("value", [b"-1", b"NaN", b"+Inf", b"x"])
def test_a_total_of_which_a_part_cannot_be_used_is_not_known(value):
    scan = WorkScan("vllm")
    scan.take(b'vllm:generation_tokens_total{engine="0"} 5\n')
    scan.take(b'vllm:generation_tokens_total{engine="1"} ' + value + b"\n")
    assert math.isnan(scan.counters().answer_tokens)

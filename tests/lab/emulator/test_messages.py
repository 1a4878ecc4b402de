import math

import pytest

from router._pb import inference_pb2 as pb
from router._pb import orca_pb2
from router.lab.emulator import messages
from router.lab.emulator.cost import RequestCost
from router.lab.replay.replica import Ended
from tests.lab.emulator.fleets import infer_request, read_text


def test_work_is_read_from_the_parameters():
    request = infer_request(output_tokens=7, max_tokens=9, prompt_tokens=30)
    work = messages.read_work(request)
    assert work[:3] == (30.0, 7.0, 9.0)
    assert math.isnan(work.stream_every)
    assert messages.read_work(infer_request(stream_every=16)).stream_every == 16.0


def test_input_tokens_are_estimated_from_the_tensors():
    work = messages.read_work(infer_request())
    assert work.input_tokens == math.ceil(15 / 4)
    assert math.isnan(work.output_tokens) and work.max_tokens == math.inf
    typed = pb.ModelInferRequest()
    typed.inputs.add(name="text_input").contents.bytes_contents.append(b"x" * 41)
    assert messages.read_work(typed).input_tokens == 11


@pytest.mark.parametrize(("text", "expected"), [("12", 12.0), ("many", math.nan)])
def test_string_parameters(text, expected):
    work = messages.read_work(infer_request(output_tokens=text))
    assert work.output_tokens == pytest.approx(expected, nan_ok=True)


def test_the_energy_report_sums_the_requests_of_a_call():
    record = Ended("a", 3.0, True, 1.0, 1.0, 1.5, 100.0, 20.0, 130.0, 30.0, 13.0, 8, 96.0)
    (binary_key, binary), (text_key, text) = messages.energy_trailers(
        RequestCost.of([record, record], 64)
    )
    assert (binary_key, text_key) == ("endpoint-load-metrics-bin", "endpoint-load-metrics")
    report = orca_pb2.OrcaLoadReport.FromString(binary)
    assert read_text(text) == dict(report.request_cost) | dict(report.named_metrics)
    assert dict(report.request_cost) == {"energy_j": 260.0, "marginal_energy_j": 26.0}
    assert dict(report.named_metrics) == {
        "output_tokens": 40.0,
        "cached_tokens": 192.0,
        "batch": 8.0,
    }
    assert report.application_utilization == 0.125


def test_prompts_begin_alike_as_far_as_their_text_does_raw_or_not():
    system = b"You are a helpful assistant. " * 60

    def chain(text, raw):
        request = pb.ModelInferRequest(model_name="llama")
        tensor = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
        if raw:
            request.raw_input_contents.append(len(text).to_bytes(4, "little") + text)
        else:
            tensor.contents.bytes_contents.append(text)
        return messages.read_work(request).chain.tolist()

    one, other = chain(system + b"a" * 700, True), chain(system + b"b" * 900, False)
    assert one[:3] == other[:3]
    assert not set(one[3:]) & set(other[3:])
    assert chain(b"short", True) == messages.read_work(pb.ModelInferRequest()).chain.tolist() == []


def test_an_answer_says_that_it_is_emulated():
    answer = messages.answer(infer_request(), "1", "[emulated]", final=True)
    assert answer.id == "r1" and answer.model_version == "1"
    assert answer.parameters["emulated"].bool_param
    assert answer.parameters["triton_final_response"].bool_param
    assert answer.raw_output_contents[0] == b"\x0a\x00\x00\x00[emulated]"

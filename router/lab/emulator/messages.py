"""What an emulated server reads from a request and says in its answers."""

from __future__ import annotations

import math
from typing import NamedTuple

from router._pb import inference_pb2 as pb
from router._pb import orca_pb2
from router.lab.replay.replica import Ended

ORCA_TRAILER = "endpoint-load-metrics-bin"
ORCA_TEXT_TRAILER = "endpoint-load-metrics"
FINAL_RESPONSE = "triton_final_response"
OUTPUT_NAME = "text_output"
BYTES_PER_TOKEN = 4.0  # of English text, common rule of thumb; only where no count is given

# Known to emulated servers only.
_OUTPUT_TOKENS = ("output_tokens",)
_STREAM_EVERY = ("stream_every",)
_MAX_TOKENS = ("max_tokens", "max_output_tokens", "max_new_tokens")
_INPUT_TOKENS = ("input_tokens", "prompt_tokens")


class Work(NamedTuple):
    """What a request asks for; NaN, and inf for the limit, where it does not say."""

    input_tokens: float
    output_tokens: float
    max_tokens: float
    stream_every: float


def read_work(request: pb.ModelInferRequest) -> Work:
    """Token counts from the parameters, input tokens else from the size of the tensors."""
    given = _parameter(request, _INPUT_TOKENS)
    if math.isnan(given):
        size = sum(map(len, request.raw_input_contents))
        for tensor in request.inputs:
            size += sum(map(len, tensor.contents.bytes_contents))
        given = math.ceil(size / BYTES_PER_TOKEN)
    limit = _parameter(request, _MAX_TOKENS)
    return Work(
        given,
        _parameter(request, _OUTPUT_TOKENS),
        math.inf if math.isnan(limit) else limit,
        _parameter(request, _STREAM_EVERY),
    )


def _parameter(request: pb.ModelInferRequest, names: tuple[str, ...]) -> float:
    for name in names:
        if name in request.parameters:
            value = request.parameters[name]
            which = value.WhichOneof("parameter_choice")
            if which in ("int64_param", "uint64_param", "double_param"):
                return float(getattr(value, which))
            if which == "string_param":
                try:
                    return float(value.string_param)
                except ValueError:
                    return math.nan
    return math.nan


def answer(
    request: pb.ModelInferRequest, version: str, text: str, final: bool | None = None
) -> pb.ModelInferResponse:
    """A response with one BYTES tensor; ``final``: Triton's marker, None leaves it out."""
    response = pb.ModelInferResponse(
        model_name=request.model_name, model_version=version, id=request.id
    )
    response.parameters["emulated"].bool_param = True
    if final is not None:
        response.parameters[FINAL_RESPONSE].bool_param = final
    output = response.outputs.add(name=OUTPUT_NAME, datatype="BYTES")
    output.shape.append(1)
    encoded = text.encode()
    response.raw_output_contents.append(len(encoded).to_bytes(4, "little") + encoded)
    return response


def energy_trailers(records: list[Ended], max_batch: int) -> tuple[tuple[str, str | bytes], ...]:
    """The ORCA report of one call: joules (GPU and host) summed over its requests.

    ``request_cost``: ``energy_j`` attributional, ``marginal_energy_j`` short-run marginal.
    ``named_metrics``: ``output_tokens``, and ``batch`` at the end of the last request. Both as
    the binary trailer of gRFC A51 and as text: gRPC's C-core keeps the binary one to its own
    load-balancing policies and never shows it to a Python client.
    """
    cost = {
        "energy_j": math.fsum(record.energy_j for record in records),
        "marginal_energy_j": math.fsum(record.marginal_energy_j for record in records),
    }
    metrics = {
        "output_tokens": math.fsum(record.output_tokens for record in records),
        "batch": float(records[-1].batch),
    }
    report = orca_pb2.OrcaLoadReport(
        request_cost=cost,
        named_metrics=metrics,
        application_utilization=records[-1].batch / max_batch,
    )
    pairs = [f"request_cost.{name}={value!r}" for name, value in cost.items()]
    pairs += [f"named_metrics.{name}={value!r}" for name, value in metrics.items()]
    return (
        (ORCA_TRAILER, bytes(report.SerializeToString())),
        (ORCA_TEXT_TRAILER, f"TEXT {','.join(pairs)}"),
    )


def model_metadata(name: str, version: str, profile: str) -> pb.ModelMetadataResponse:
    """One text tensor in, one out; the platform says that it is emulated."""
    response = pb.ModelMetadataResponse(
        name=name, versions=[version], platform=f"emulated {profile}"
    )
    response.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    response.outputs.add(name=OUTPUT_NAME, datatype="BYTES", shape=[1])
    return response


def model_config(name: str, max_batch: int) -> pb.ModelConfigResponse:
    """A decoupled model, as Triton describes one."""
    config = pb.ModelConfig(name=name, platform="emulated", backend="emulated")
    config.max_batch_size = max_batch
    config.model_transaction_policy.decoupled = True
    return pb.ModelConfigResponse(config=config)

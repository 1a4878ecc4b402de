"""What an emulated server reads from a request and says in its answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from router._pb import inference_pb2 as pb
from router._pb import orca_pb2
from router.lab.emulator.cost import ORCA_BINARY, ORCA_TEXT, RequestCost
from router.lab.emulator.work import Work, chain_of, tokens_of

FINAL_RESPONSE = "triton_final_response"
OUTPUT_NAME = "text_output"

# Known to emulated servers only.
_OUTPUT_TOKENS = ("output_tokens",)
_STREAM_EVERY = ("stream_every",)
_MAX_TOKENS = ("max_tokens", "max_output_tokens", "max_new_tokens")
_INPUT_TOKENS = ("input_tokens", "prompt_tokens")


def read_work(request: pb.ModelInferRequest) -> Work:
    """Token counts from the parameters, input tokens else from the size of the tensors."""
    tensors = [*request.raw_input_contents]
    tensors += [one for tensor in request.inputs for one in tensor.contents.bytes_contents]
    given = _parameter(request, _INPUT_TOKENS)
    limit = _parameter(request, _MAX_TOKENS)
    return Work(
        tokens_of(sum(map(len, tensors))) if math.isnan(given) else given,
        _parameter(request, _OUTPUT_TOKENS),
        math.inf if math.isnan(limit) else limit,
        _parameter(request, _STREAM_EVERY),
        chain_of(_prompt(tensors)),
    )


def _prompt(tensors: Sequence[bytes]) -> bytes:
    """The longest of them, without the length that a raw one begins with."""
    prompt = max(tensors, key=len, default=b"")
    return prompt[4:] if len(prompt) - 4 == int.from_bytes(prompt[:4], "little") else prompt


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


def energy_trailers(cost: RequestCost) -> tuple[tuple[str, str | bytes], ...]:
    """The ORCA report of one call, as the binary trailer of gRFC A51 and as text.

    gRPC's C-core keeps the binary one to its own load-balancing policies and never shows it to a
    Python client.
    """
    report = orca_pb2.OrcaLoadReport(
        request_cost=cost.request_cost,
        named_metrics=cost.named_metrics,
        application_utilization=cost.utilization,
    )
    return ((ORCA_BINARY, bytes(report.SerializeToString())), (ORCA_TEXT, cost.as_text()))


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

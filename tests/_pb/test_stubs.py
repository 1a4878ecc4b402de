"""The generated messages: current, wire-compatible, and alone in their pool."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from router._pb import (
    ext_proc_pb2,  # noqa: F401
    externalscaler_pb2,  # noqa: F401
    inference_pb2,
    orca_pb2,
    router_pb2,
)
from router._pb.pool import POOL, add_file

ROOT = Path(__file__).parent.parent.parent

# From the published protocols: what makes us wire-compatible.
FIELDS = {
    "inference.ModelInferRequest": "model_name model_version id parameters inputs outputs "
    "raw_input_contents",
    "inference.ModelInferRequest.InferInputTensor": "name datatype shape parameters contents",
    "inference.ModelInferRequest.InferRequestedOutputTensor": "name parameters",
    "inference.ModelInferResponse": "model_name model_version id parameters outputs "
    "raw_output_contents",
    "inference.ModelInferResponse.InferOutputTensor": "name datatype shape parameters contents",
    "inference.InferParameter": "bool_param int64_param string_param double_param uint64_param",
    "inference.InferTensorContents": "bool_contents int_contents int64_contents uint_contents "
    "uint64_contents fp32_contents fp64_contents bytes_contents",
    "inference.ModelStreamInferResponse": "error_message infer_response",
    "inference.ModelMetadataResponse": "name versions platform inputs outputs",
    "inference.ServerMetadataResponse": "name version extensions",
    "xds.data.orca.v3.OrcaLoadReport": "cpu_utilization mem_utilization rps request_cost "
    "utilization rps_fractional eps named_metrics application_utilization",
}

# Of Envoy's and KEDA's, of which only a part is in proto/: fields by their numbers there.
_EXT_PROC = "envoy.service.ext_proc.v3"
NUMBERS = {
    f"{_EXT_PROC}.ProcessingRequest": "request_headers=2 response_headers=3 request_body=4 "
    "response_body=5 request_trailers=6 response_trailers=7 metadata_context=8 attributes=9 "
    "observability_mode=10 protocol_config=11",
    f"{_EXT_PROC}.ProcessingResponse": "request_headers=1 response_headers=2 request_body=3 "
    "response_body=4 request_trailers=5 response_trailers=6 immediate_response=7 "
    "dynamic_metadata=8",
    f"{_EXT_PROC}.HttpHeaders": "headers=1 end_of_stream=3",
    f"{_EXT_PROC}.CommonResponse": "header_mutation=2 body_mutation=3 clear_route_cache=5",
    f"{_EXT_PROC}.ImmediateResponse": "status=1 headers=2 body=3 details=5",
    f"{_EXT_PROC}.BodyMutation": "body=1 clear_body=2 streamed_response=3",
    f"{_EXT_PROC}.HeaderValueOption": "header=1 append_action=3",
    f"{_EXT_PROC}.HeaderValue": "key=1 value=2 raw_value=3",
    f"{_EXT_PROC}.Value": "null_value=1 number_value=2 string_value=3 bool_value=4 struct_value=5 "
    "list_value=6",
    "externalscaler.ScaledObjectRef": "name=1 namespace=2 scalerMetadata=3",
    "externalscaler.MetricSpec": "metricName=1 targetSize=2 targetSizeFloat=3",
    "externalscaler.MetricValue": "metricName=1 metricValue=2 metricValueFloat=3",
    "externalscaler.GetMetricsRequest": "scaledObjectRef=1 metricName=2",
}


@pytest.mark.parametrize(("message", "numbers"), NUMBERS.items())
def test_what_is_in_part_has_the_numbers_of_the_whole(message, numbers):
    fields = POOL.FindMessageTypeByName(message).fields
    assert " ".join(f"{field.name}={field.number}" for field in fields) == numbers


def test_what_is_checked_in_is_what_proto_says():
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed: stubs NOT compared")
    ran = subprocess.run(
        [sys.executable, "tools/generate_stubs", "--check"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(("message", "names"), FIELDS.items())
def test_field_numbers_are_those_of_the_protocol(message, names):
    fields = POOL.FindMessageTypeByName(message).fields
    assert {field.name: field.number for field in fields} == {
        name: number for number, name in enumerate(names.split(), start=1)
    }


def test_the_same_names_may_live_in_the_default_pool():
    other = descriptor_pb2.FileDescriptorProto(
        name="grpc_service.proto", package="inference", syntax="proto3"
    )
    other.message_type.add(name="ModelInferRequest").field.add(
        name="something_else", number=1, type=3, label=1
    )
    default = descriptor_pool.Default()
    default.AddSerializedFile(other.SerializeToString())
    theirs = default.FindMessageTypeByName("inference.ModelInferRequest")
    assert [field.name for field in theirs.fields] == ["something_else"]
    ours = inference_pb2.ModelInferRequest(model_name="llama")
    assert inference_pb2.ModelInferRequest.FromString(ours.SerializeToString()) == ours
    with pytest.raises(KeyError):
        default.FindMessageTypeByName("carbonrouter.v1.Decision")


def test_unknown_fields_survive():
    newer = b"\x0a\x01m\x9a\x06\x05later"
    assert inference_pb2.ModelInferRequest.FromString(newer).SerializeToString() == newer


def test_loading_a_file_twice_changes_nothing():
    again = add_file(orca_pb2.DESCRIPTOR.serialized_pb)
    assert again.name == orca_pb2.DESCRIPTOR.name


def test_every_enum_begins_unspecified():
    for name, enum in router_pb2.DESCRIPTOR.enum_types_by_name.items():
        assert enum.values_by_number[0].name.endswith("_UNSPECIFIED"), name


def test_proto_holds_no_python():
    assert not list((ROOT / "proto").rglob("*.py"))

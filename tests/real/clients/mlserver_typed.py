"""MLServer's own stub, typed ``contents``: ``mlserver_typed.py ADDRESS``."""

import sys

import grpc
from answer import pairs, tell
from google.protobuf.json_format import MessageToDict
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub


def linear() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="linear", model_version="v1", id="typed-1")
    request.inputs.add(name="x", datatype="FP64", shape=[2, 2]).contents.fp64_contents.extend(
        [1.0, 2.0, 0.0, 0.0]
    )
    return request


def echo() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="echo", id="typed-2")
    request.parameters["note"].string_param = "kept"
    add = request.inputs.add
    add(name="i", datatype="INT64", shape=[2]).contents.int64_contents.extend([-1, 2**62])
    add(name="u", datatype="UINT32", shape=[1]).contents.uint_contents.append(2**32 - 1)
    add(name="f", datatype="FP32", shape=[1]).contents.fp32_contents.append(0.5)
    add(name="b", datatype="BOOL", shape=[2]).contents.bool_contents.extend([True, False])
    add(name="s", datatype="BYTES", shape=[1]).contents.bytes_contents.append("grün".encode())
    return request


if __name__ == "__main__":
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        answer, call = stub.ModelInfer.with_call(linear(), timeout=20)
        echoed = stub.ModelInfer(echo(), timeout=20)
        tell(
            linear=MessageToDict(answer, preserving_proto_field_name=True),
            trailing=pairs(call.trailing_metadata()),
            echo=MessageToDict(echoed, preserving_proto_field_name=True),
        )

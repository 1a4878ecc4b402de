"""tritonclient, raw tensors: ``triton_unary.py ADDRESS``. Model ``linear`` adds 2 x0 + 3 x1 + 1."""

import sys

import grpc
import numpy as np
import tritonclient.grpc as triton
from answer import pairs, tell
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2, service_pb2_grpc

MESSAGE_LIMIT_BYTES = 64 << 20
POINTS = np.array([[0.0, 0.0], [1.0, 2.0], [-4.0, 0.5]])
BIG_ROWS = 400_000  # 2 x 8 bytes a row: 6.4 MB, above gRPC's default limit of 4 MiB


def tensor(name: str, values: np.ndarray, datatype: str) -> triton.InferInput:
    wanted = triton.InferInput(name, list(values.shape), datatype)
    wanted.set_data_from_numpy(values)
    return wanted


def linear(client: triton.InferenceServerClient) -> dict:
    result = client.infer("linear", [tensor("x", POINTS, "FP64")], request_id="unary-1")
    response = result.get_response()
    return {
        "values": result.as_numpy("predict").tolist(),
        "raw_count": len(response.raw_output_contents),
        "message": MessageToDict(response, preserving_proto_field_name=True),
    }


def big(client: triton.InferenceServerClient) -> dict:
    points = np.random.default_rng(7).normal(size=(BIG_ROWS, 2))
    values = client.infer("linear", [tensor("x", points, "FP64")]).as_numpy("predict")
    expected = points @ np.array([2.0, 3.0]) + 1.0
    return {
        "rows": len(values),
        "worst_error": float(np.abs(values.reshape(-1) - expected).max()),
    }


def echo(client: triton.InferenceServerClient) -> dict:
    sent = {
        "INT64": np.array([[-1, 2**62]], dtype=np.int64),
        "FP32": np.array([0.5, -1e30], dtype=np.float32),
        "BOOL": np.array([True, False]),
        "BYTES": np.array([b"", "grün".encode(), b"\x00\xff"], dtype=object),
    }
    result = client.infer(
        "echo",
        [tensor(kind, values, kind) for kind, values in sent.items()],
        parameters={"note": "kept"},
    )
    response = result.get_response()
    raw = zip(response.outputs, response.raw_output_contents, strict=True)
    return {
        "note": response.parameters["note"].string_param,
        "raw_hex": {output.name: data.hex() for output, data in raw},
    }


def trailing(address: str) -> dict:
    """Initial and trailing metadata of one call, which tritonclient's own API hides."""
    request = service_pb2.ModelInferRequest(model_name="linear", id="trailing-1")
    request.inputs.add(name="x", datatype="FP64", shape=[1, 2])
    request.raw_input_contents.append(np.array([1.0, 1.0]).tobytes())
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        _, call = stub.ModelInfer.with_call(
            request, timeout=20, metadata=(("x-probe", "1"), ("x-probe-bin", b"\x00\xff"))
        )
    return pairs(call.trailing_metadata())


if __name__ == "__main__":
    options = [
        ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
        ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ]
    with triton.InferenceServerClient(sys.argv[1], channel_args=options) as opened:
        tell(
            linear=linear(opened),
            big=big(opened),
            echo=echo(opened),
            trailing=trailing(sys.argv[1]),
        )

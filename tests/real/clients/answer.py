"""What every client script shares: tensors to JSON, calls to outcomes, one JSON object out.

Imports neither tritonclient nor mlserver: both register the package ``inference`` with protobuf,
so one process can hold only one of them.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

import grpc


def tell(**result: Any) -> None:
    """Print the one JSON object that the calling test reads."""
    print(json.dumps(result, sort_keys=True))


def pairs(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Metadata as a dict of text; binary values as hex."""
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in metadata or ()}


def failure(call: Callable[[], object]) -> dict[str, str]:
    """The gRPC code and details that ``call`` ends with; code OK when it does not fail."""
    try:
        call()
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details() or ""}
    except Exception as error:
        status = getattr(error, "status", None)
        if not callable(status):
            raise
        # tritonclient wraps RpcError: status() is "StatusCode.NOT_FOUND", message() the details.
        code = str(status()).rpartition(".")[2]
        return {"code": code, "details": str(getattr(error, "message", lambda: "")())}
    return {"code": "OK", "details": ""}

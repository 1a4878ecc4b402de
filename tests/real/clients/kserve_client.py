"""KServe's client, typed and raw: ``kserve_client.py ADDRESS``. Runs in .venv-kserve."""

import asyncio
import sys
from typing import Any

import grpc
import numpy as np
from answer import tell
from kserve import InferenceGRPCClient, InferInput, InferRequest

POINTS = np.array([[0.0, 0.0], [1.0, 2.0]])


async def ask(client: InferenceGRPCClient, model: str, raw: bool) -> dict[str, Any]:
    tensor = InferInput("x", list(POINTS.shape), "FP64")
    tensor.set_data_from_numpy(POINTS, binary_data=raw)
    request = InferRequest(model, [tensor], request_id=f"kserve-{'raw' if raw else 'typed'}")
    try:
        response = await client.infer(request, timeout=20)
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details() or ""}
    return {
        "code": "OK",
        "id": response.id,
        "model": response.model_name,
        "version": response.model_version,
        "outputs": {
            output.name: {
                "datatype": output.datatype,
                "shape": output.shape,
                "values": output.as_numpy().tolist(),
            }
            for output in response.outputs
        },
    }


async def main(address: str) -> None:
    async with InferenceGRPCClient(address, retries=0) as client:
        tell(
            live=await client.is_server_live(timeout=20),
            ready=await client.is_server_ready(timeout=20),
            model_ready=await client.is_model_ready("linear", timeout=20),
            typed=await ask(client, "linear", raw=False),
            raw=await ask(client, "linear", raw=True),
            unknown=await ask(client, "nobody", raw=True),
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

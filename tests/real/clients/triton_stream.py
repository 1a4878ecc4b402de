"""tritonclient's stream: ``triton_stream.py ADDRESS MODEL [MODEL ...]``, one request a MODEL.

All requests share one stream. Prints the answers and in-band errors in order of arrival, once the
server has closed the stream.
"""

import sys

import numpy as np
import tritonclient.grpc as triton
from answer import tell
from tritonclient.utils import InferenceServerException


def main(address: str, models: list[str]) -> None:
    answers: list[dict] = []
    errors: list[str] = []

    def arrived(result: triton.InferResult | None, error: InferenceServerException | None) -> None:
        if error is not None:
            errors.append(error.message())
        elif result is not None:
            response = result.get_response()
            answers.append(
                {
                    "model": response.model_name,
                    "id": response.id,
                    "parameters": sorted(response.parameters),
                    "outputs": {
                        tensor.name: result.as_numpy(tensor.name).tolist()
                        for tensor in response.outputs
                    },
                }
            )

    tensor = triton.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 2), dtype=np.float32))
    with triton.InferenceServerClient(address) as client:
        client.start_stream(arrived, stream_timeout=60)
        for number, model in enumerate(models):
            client.async_stream_infer(model, [tensor], request_id=f"stream-{number}")
        # Half-closes, then waits for the server to finish.
        client.stop_stream(cancel_requests=False)
    tell(answers=answers, errors=errors)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

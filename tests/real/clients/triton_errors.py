"""Requests that must fail, by tritonclient: ``triton_errors.py ADDRESS``."""

import sys
from functools import partial

import numpy as np
import tritonclient.grpc as triton
from answer import failure, tell

GOOD = np.ones((1, 2))
BAD = np.ones((1, 5))
BAD_IN_A_ROW = 30


def infer(
    client: triton.InferenceServerClient, model: str, values: np.ndarray, **options: object
) -> None:
    tensor = triton.InferInput("x", list(values.shape), "FP64")
    tensor.set_data_from_numpy(values)
    client.infer(model, [tensor], **{"client_timeout": 20.0, **options})


def short_tensor(client: triton.InferenceServerClient) -> None:
    """Announces two FP64 values, sends eight bytes."""
    tensor = triton.InferInput("x", [1, 1], "FP64")
    tensor.set_data_from_numpy(np.zeros((1, 1)))
    tensor.set_shape([1, 2])
    client.infer("linear", [tensor], client_timeout=20.0)


if __name__ == "__main__":
    with triton.InferenceServerClient(sys.argv[1]) as opened:
        ask = partial(partial, infer, opened)
        tell(
            unknown_model=failure(ask("nobody", GOOD)),
            unknown_version=failure(ask("linear", GOOD, model_version="v9")),
            bad_shape=failure(ask("linear", BAD)),
            short_tensor=failure(partial(short_tensor, opened)),
            client_deadline=failure(
                ask("echo", GOOD, client_timeout=0.5, parameters={"delay_s": "30"})
            ),
            # MLServer answers INTERNAL to a bad tensor: one caller's mistakes, repeated, must not
            # take the server away from everybody else.
            bad_codes=sorted({failure(ask("linear", BAD))["code"] for _ in range(BAD_IN_A_ROW)}),
            afterwards=failure(ask("linear", GOOD)),
        )

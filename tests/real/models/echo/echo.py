"""An MLServer runtime that answers with its inputs, so that a proxy's every change shows.

Runs inside MLServer (tests/real/requirements.lock), never in the product's environment.
"""

import asyncio

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, Parameters, ResponseOutput


class Echo(MLModel):
    """Each input comes back as an output of the same name; ``delay_s`` postpones the answer.

    The request parameter ``note`` comes back as a response parameter.
    """

    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        asked = payload.parameters.model_dump() if payload.parameters else {}
        await asyncio.sleep(float(asked.get("delay_s") or 0.0))
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            parameters=Parameters(note=asked["note"]) if "note" in asked else None,
            outputs=[
                ResponseOutput(
                    name=tensor.name,
                    shape=tensor.shape,
                    datatype=tensor.datatype,
                    parameters=tensor.parameters,
                    data=tensor.data,
                )
                for tensor in payload.inputs
            ],
        )

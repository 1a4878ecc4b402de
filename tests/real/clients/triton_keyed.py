"""tritonclient with keys: ``triton_keyed.py ADDRESS MODEL RIGHT WRONG``."""

import sys

import tritonclient.grpc as triton
from answer import failure, tell

if __name__ == "__main__":
    address, model, right, wrong = sys.argv[1:]

    def bearer(key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"}

    with triton.InferenceServerClient(address) as client:

        def ready(**options: object) -> bool:
            return bool(client.is_model_ready(model, client_timeout=20, **options))

        tell(
            live=client.is_server_live(client_timeout=20),
            ready=ready(headers=bearer(right)),
            none=failure(lambda: client.get_server_metadata(client_timeout=20)),
            wrong=failure(
                lambda: client.get_server_metadata(headers=bearer(wrong), client_timeout=20)
            ),
            server=client.get_server_metadata(
                headers=bearer(right), as_json=True, client_timeout=20
            ),
        )

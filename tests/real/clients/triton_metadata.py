"""tritonclient's questions about server and model: ``triton_metadata.py ADDRESS``."""

import sys

import tritonclient.grpc as triton
from answer import failure, tell

if __name__ == "__main__":
    with triton.InferenceServerClient(sys.argv[1]) as client:
        tell(
            live=client.is_server_live(client_timeout=20),
            ready=client.is_server_ready(client_timeout=20),
            model_ready=client.is_model_ready("linear", client_timeout=20),
            server=client.get_server_metadata(as_json=True, client_timeout=20),
            model=client.get_model_metadata("linear", as_json=True, client_timeout=20),
            unknown_ready=failure(lambda: client.is_model_ready("nobody", client_timeout=20)),
            unknown_metadata=failure(
                lambda: client.get_model_metadata("nobody", client_timeout=20)
            ),
            config=failure(lambda: client.get_model_config("linear", client_timeout=20)),
        )

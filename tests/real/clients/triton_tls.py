"""tritonclient over mTLS: ``triton_tls.py ADDRESS MODEL CA_FILE KEY_FILE CHAIN_FILE``."""

import sys

import tritonclient.grpc as triton
from answer import failure, tell

if __name__ == "__main__":
    address, model, ca, key, chain = sys.argv[1:]
    shown = {"private_key": key, "certificate_chain": chain}
    with (
        triton.InferenceServerClient(address, ssl=True, root_certificates=ca, **shown) as known,
        triton.InferenceServerClient(address, ssl=True, root_certificates=ca) as nobody,
        triton.InferenceServerClient(address) as plain,
    ):
        tell(
            ready=known.is_model_ready(model, client_timeout=20),
            server=known.get_server_metadata(as_json=True, client_timeout=20),
            nobody=failure(lambda: nobody.get_server_metadata(client_timeout=5)),
            plain=failure(lambda: plain.get_server_metadata(client_timeout=5)),
        )

"""gRPC writes nothing of its own; imported before anything that imports it.

It writes to stderr itself, past the log: by its default a line for each TLS handshake that fails,
and at its quietest but one several for each client that breaks TLS off, of which strangers can make
as many as they like. Whoever sets the variable is obeyed.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

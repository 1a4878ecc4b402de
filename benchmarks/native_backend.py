"""A model server that costs nearly nothing: nghttpd, which answers gRPC from files.

Behind a backend in Python, a proxy's own cost hides: it takes half of the machine for itself. Needs
nghttp2's programs (Debian: nghttp2-server).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.echo_backend import SERVICE, TRUE, UNARY_ANSWER
from benchmarks.processes import server

ANSWERS = {"ModelInfer": UNARY_ANSWER, "ServerReady": TRUE, "ModelReady": TRUE}


@contextmanager
def native_backends(
    program: str | None, addresses: Sequence[str], is_ready: Callable[[str], bool]
) -> Iterator[None]:
    """One process an address; ``program``: nghttpd's path. SystemExit where there is none."""
    if program is None:
        sys.exit("nghttpd is missing: install nghttp2-server")
    with ExitStack() as running:
        root = Path(running.enter_context(TemporaryDirectory()))
        (root / SERVICE).mkdir()
        for method, answer in ANSWERS.items():
            message = b"\0" + struct.pack(">I", len(answer)) + answer
            (root / SERVICE / method).write_bytes(message)
        for address in addresses:
            port = address.rpartition(":")[2]
            # Of the header fields that nghttpd adds none is gRPC's.
            command = [program, "--no-tls", "-d", str(root), "--trailer", "grpc-status: 0", port]
            running.enter_context(server("nghttpd", address, command, is_ready))
        yield

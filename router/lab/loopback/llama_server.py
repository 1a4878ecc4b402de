"""llama.cpp's own HTTP server, out of xllamacpp, as a child that does not outlive its parent.

``PARENT_PID PORT SERVER_PORT RTT_MS MODEL.gguf``: llama.cpp listens on SERVER_PORT, a relay that
adds the round trip on PORT. Ends on SIGTERM. Its Python needs xllamacpp, and nothing else.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading

from router.lab.loopback.delay import Relay
from router.parent_process import end_with_parent

ALIAS = "smollm2"
SLOTS = 2
CONTEXT_TOKENS = 2048  # of all slots together


def main() -> None:
    """Tie this process to its parent, then serve until SIGTERM."""
    parent, port, server_port, rtt_ms, model = sys.argv[1:]
    end_with_parent(int(parent))
    import xllamacpp

    chosen = xllamacpp.CommonParams()
    chosen.model.path = model
    chosen.model_alias = {ALIAS}
    chosen.hostnames = ["127.0.0.1"]
    chosen.port = int(server_port)
    chosen.endpoint_metrics = True
    chosen.ui = False
    chosen.n_parallel = SLOTS
    chosen.n_ctx = CONTEXT_TOKENS
    # One core each: as many servers as this may have more of them than the machine has cores.
    chosen.cpuparams.n_threads = 1
    chosen.cpuparams_batch.n_threads = 1
    # Before the server's threads are made, which inherit it: SIGTERM is for `sigwait` alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = xllamacpp.Server(chosen)
    print(server.listening_address, flush=True)
    relay = Relay(int(port), int(server_port), float(rtt_ms))
    threading.Thread(target=asyncio.run, args=(relay.serve(),), daemon=True).start()
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()

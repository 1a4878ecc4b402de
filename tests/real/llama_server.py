"""llama.cpp's own HTTP server, out of xllamacpp's wheel: ``llama_server.py PORT MODEL [SLOTS]``.

Run by .venv-llm's Python. Chat, completions and embeddings of one model, and ``/metrics``. Ends on
SIGTERM.
"""

import signal
import sys

import xllamacpp

ALIAS = "smollm2"
SLOTS = 2
SLOT_TOKENS = 1024


def parameters(port: int, model: str, slots: int = SLOTS) -> xllamacpp.CommonParams:
    chosen = xllamacpp.CommonParams()
    chosen.model.path = model
    chosen.model_alias = {ALIAS}
    chosen.hostnames = ["127.0.0.1"]
    chosen.port = port
    chosen.endpoint_metrics = True
    chosen.ui = False
    chosen.n_parallel = slots
    chosen.n_ctx = slots * SLOT_TOKENS
    # Else many slots are several batches, whichever of them are taken.
    chosen.kv_unified = slots > SLOTS
    # Others use this machine's few cores.
    chosen.cpuparams.n_threads = 1
    chosen.cpuparams_batch.n_threads = 1
    # An embedding is the mean over its text: by itself the model states none.
    chosen.embedding = True
    chosen.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return chosen


if __name__ == "__main__":
    # Before the server's threads are made, which inherit it: SIGTERM is for `sigwait` alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = xllamacpp.Server(parameters(int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])))
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM})

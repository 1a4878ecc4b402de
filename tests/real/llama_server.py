"""llama.cpp's own HTTP server, out of xllamacpp's wheel: ``llama_server.py PORT MODEL``.

Run by .venv-llm's Python. Chat, completions and embeddings of one model, and ``/metrics``. Ends on
SIGTERM.
"""

import signal
import sys

import xllamacpp

ALIAS = "smollm2"
SLOTS = 2
CONTEXT_TOKENS = 2048  # of all slots together


def parameters(port: int, model: str) -> xllamacpp.CommonParams:
    chosen = xllamacpp.CommonParams()
    chosen.model.path = model
    chosen.model_alias = {ALIAS}
    chosen.hostnames = ["127.0.0.1"]
    chosen.port = port
    chosen.endpoint_metrics = True
    chosen.ui = False
    chosen.n_parallel = SLOTS
    chosen.n_ctx = CONTEXT_TOKENS
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
    server = xllamacpp.Server(parameters(int(sys.argv[1]), sys.argv[2]))
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM})

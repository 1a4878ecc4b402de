"""Workload files on disk, and how a scenario reads them."""

import gzip
import math

from router.lab.sim.traffic.columns import joined
from router.lab.sim.traffic.workload_file import FileWorkload

NEEDED = "arrival_s,origin,model,input_tokens,output_tokens"
MODELS = {"m": math.inf, "n": 50.0}


def read(path, duration_s=100.0, origins=("x", "y"), **options):
    return FileWorkload(path, duration_s, origins, MODELS, **options)


def write(folder, *rows, header=NEEDED, name="w.csv"):
    path = folder / name
    text = "\n".join([header, *rows]) + "\n"
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def whole(workload):
    return joined(list(workload.chunks()))

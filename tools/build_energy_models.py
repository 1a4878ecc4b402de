"""Write router/data/energy_models.csv, which `carbon-router energy` reads; `--check` compares.

    python tools/build_energy_models.py FOLDER [--check]

FOLDER holds mlenergy_v3_llm_h100_b200.csv, mlenergy_v2_llm_a100_h100.csv (ML.ENERGY Benchmark,
Apache-2.0) and splitwise_perf_power.csv (splitwise-sim, MIT). A row a model and kind of GPU: what a
decode step takes and draws at three loads, prompts taken out, and what a prompt takes. Columns:
router/data/README.md.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from serving_fit import (
    BANDWIDTH_SHARE,
    PROMPT_TOKENS,
    Line,
    Runs,
    cached_token_ms,
    model_name,
    read_reference,
    read_runs,
    scaled_prefill,
)
from serving_hardware import CARDS, PARAMS_B

TARGET = Path(__file__).resolve().parents[1] / "router" / "data" / "energy_models.csv"
V3, V2 = "mlenergy_v3_llm_h100_b200.csv", "mlenergy_v2_llm_a100_h100.csv"
SPLITWISE = "splitwise_perf_power.csv"
# Mean prompts, in tokens: text conversation and problem solving by the set's authors; completion
# by what its own latencies show on one H100 (fit_profiles.py --evidence).
TASKS = {"lm-arena-chat": PROMPT_TOKENS, "gpqa": 634.0, "sourcegraph-fim": 1600.0}
V2_TASK = "llm_text_generation/chat"
V2_CARDS = {"NVIDIA A100-SXM4-40GB": "A100-40GB", "NVIDIA H100 80GB HBM3": "H100"}
PREFILL_SHARE = 0.95
# 25 tokens a second to each reader, within 5 %.
TYPICAL_TPOT_MS = 42.0
BYTES_PER_PARAM = {"bfloat16": 2.0, "fp8": 1.0, "mxfp4": 0.55}
COLUMNS = (
    "model", "gpu", "gpus", "precision", "active_params_b", "total_params_b", "data_set", "task",
    "cached_tokens", "ms_per_cached_token", "prompt_ms_per_piece", "prompt_ms_per_token",
    "prompt_ms_per_token2", "prompt_w", "alone_ms", "alone_w", "typical_batch", "typical_ms",
    "typical_w", "full_batch", "full_ms", "full_w",
)  # fmt: skip


def read_v2(path: Path, task: str) -> list[Runs]:
    """Runs of one task of ML.ENERGY V2, which gives joules a request and no latency percentiles."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["task"] == task:
                shape = (row["tensor_parallel"], row["pipeline_parallel"])
                groups[row["model_id"], row["gpu_model"], *shape].append(row)
    runs = []
    for (model_id, gpu, tensor, pipeline), rows in groups.items():
        table = {
            key: np.array([float(row[key]) for row in rows])
            for key in rows[0]
            if key not in ("task", "model_id", "gpu_model")
        }
        model = model_name(model_id)
        j_per_token = table["energy_per_request_joules"] / table["avg_output_len"]
        rate = table["output_throughput_tokens_per_sec"]
        runs.append(
            Runs(
                model=model,
                nickname=model,
                gpu=V2_CARDS[gpu],
                gpus=int(tensor) * int(pipeline),
                precision="bfloat16",
                active_params_b=PARAMS_B[model][0],
                total_params_b=PARAMS_B[model][1],
                power_w=j_per_token * rate,
                token_s=rate,
                batch=table["avg_batch_size"],
                median_itl_ms=np.full(len(rows), np.nan),
                j_per_token=j_per_token,
                max_num_seqs=table["max_num_seqs"],
                answer_tokens=table["avg_output_len"],
            )
        )
    return runs


def weights_ms(run: Runs) -> float:
    """Time to read the weights that one token needs, on all GPUs at once."""
    read = run.active_params_b * 1e9 * BYTES_PER_PARAM[run.precision]
    return read / (CARDS[run.gpu].bytes_per_s * BANDWIDTH_SHARE * run.gpus) * 1000.0


def row(run: Runs, data_set: str, task: str, prompt: float, reference: Line) -> dict[str, str]:
    """One row of the table."""
    made = scaled_prefill(run, reference)
    if task == "sourcegraph-fim":
        # Its prompts are all that their length is known by; nothing is left for each piece.
        made = made._replace(per_piece_ms=0.0)
    prompt_w = CARDS[run.gpu].limit_w * run.gpus * PREFILL_SHARE
    tpot_ms = run.mean_tpot_ms
    share = np.minimum(run.batch / run.answer_tokens * made.time_ms(prompt) / tpot_ms, 0.9)
    step_ms = tpot_ms * (1 - share)
    step_w = np.maximum((run.power_w - prompt_w * share) / (1 - share), 0.3 * run.power_w)
    order = np.argsort(run.batch)
    first, second = order[0], order[1]
    slope = (step_ms[second] - step_ms[first]) / (run.batch[second] - run.batch[first])
    # From the two smallest batches, but no faster than the weights can be read.
    alone_ms = max(step_ms[first] - slope * (run.batch[first] - 1), weights_ms(run))
    fits = (run.max_num_seqs <= run.max_num_seqs.max() / 2) & (tpot_ms <= TYPICAL_TPOT_MS)
    typical = int(np.where(fits)[0][run.batch[fits].argmax()]) if fits.any() else int(first)
    full = int(order[-1])
    cached = prompt + float(run.answer_tokens.mean()) / 2
    values = (
        run.model, run.gpu, run.gpus, run.precision, f"{run.active_params_b:g}",
        f"{run.total_params_b:g}", data_set, task.rpartition("/")[2], f"{cached:.0f}",
        f"{cached_token_ms(run):.2e}", f"{made.per_piece_ms:.1f}", f"{made.per_token_ms:.4f}",
        f"{made.per_token2_ms:.2e}", f"{prompt_w:.0f}", f"{alone_ms:.2f}", f"{step_w[first]:.0f}",
        f"{run.batch[typical]:.0f}", f"{step_ms[typical]:.2f}", f"{step_w[typical]:.0f}",
        f"{run.batch[full]:.0f}", f"{step_ms[full]:.2f}", f"{step_w[full]:.0f}",
    )  # fmt: skip
    return dict(zip(COLUMNS, map(str, values), strict=True))


def build(folder: Path) -> str:
    """The whole file: of each model and card the newest set, and of its shapes the widest."""
    reference = read_reference(folder / SPLITWISE)
    sources = [
        (run, "mlenergy-v3", task, prompt)
        for task, prompt in TASKS.items()
        for run in read_runs(folder / V3, task).values()
    ] + [(run, "mlenergy-v2", V2_TASK, PROMPT_TOKENS) for run in read_v2(folder / V2, V2_TASK)]
    chosen: dict[tuple[str, str], tuple[Runs, str, str, float]] = {}
    for found in sources:
        run, data_set, task, _ = found
        if len(run.batch) < 2:
            continue
        held = chosen.get((run.model, run.gpu))
        same = held is not None and (held[1], held[2]) == (data_set, task)
        if held is None or (same and len(run.batch) > len(held[0].batch)):
            chosen[run.model, run.gpu] = found
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for _, (run, data_set, task, prompt) in sorted(chosen.items()):
        writer.writerow(row(run, data_set, task, prompt, reference))
    return out.getvalue()


def main() -> int:
    """Write the file, or with ``--check`` say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = build(arguments.folder)
    if not arguments.check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") != text:
        print(f"{TARGET} is out of date; run tools/build_energy_models.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

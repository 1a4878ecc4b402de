"""Fit router/data/profiles.yaml from the measured sets; `--check` compares instead of writing.

    python tools/fit_profiles.py FOLDER [--check]

FOLDER holds mlenergy_v3_llm_h100_b200.csv (ML.ENERGY Benchmark V3, Apache-2.0) and
splitwise_perf_power.csv (splitwise-sim, MIT). The written file's header says what each figure is.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

TARGET = Path(__file__).resolve().parents[1] / "router" / "data" / "profiles.yaml"
MIN_R2 = 0.9
MIN_POINTS = 5
MAX_J_ERROR = 0.15
TASK = "lm-arena-chat"
IDLE_W = {"H100": 90.0, "B200": 120.0}
HOST_FRACTION = 0.3
TARGET_TPOT_MS = 40.0
# Dense peak of the tensor cores at the weights' precision over H100 at bf16 (NVIDIA data sheets:
# H100 SXM 989 bf16 and 1979 fp8 TFLOPS, B200 2250 and 4500).
PEAK = {("H100", "bfloat16"): 1.0, ("H100", "fp8"): 2.0}
PEAK |= {("B200", "bfloat16"): 2.28, ("B200", "fp8"): 4.55}
REFERENCE = ("llama2-70b", "h100-80gb", "4")
REFERENCE_PARAMS = 70.0
REFERENCE_GPUS = 4
PROMPTS = range(128, 2049)

Column = npt.NDArray[np.float64]


class Line(NamedTuple):
    """y = base + slope * x, with the coefficient of determination."""

    base: float
    slope: float
    r2: float


class Runs(NamedTuple):
    """One model on one GPU group over batch sizes. Columns are equally long."""

    nickname: str
    gpu: str
    gpus: int
    precision: str
    active_params_b: float
    power_w: Column
    token_s: Column
    batch: Column
    median_itl_ms: Column
    j_per_token: Column
    max_num_seqs: Column

    @property
    def mean_tpot_ms(self) -> Column:
        """Mean time between two tokens of one sequence: batch / throughput."""
        return self.batch / self.token_s * 1000.0


def fit_line(x: Column, y: Column) -> Line:
    """Ordinary least squares."""
    slope, base = np.polyfit(x, y, 1)
    left = float(((y - base - slope * x) ** 2).sum())
    return Line(float(base), float(slope), 1.0 - left / float(((y - y.mean()) ** 2).sum()))


def read_runs(path: Path, task: str = TASK) -> dict[str, Runs]:
    """Runs by profile name, models with one shape of parallelism per GPU count."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["task"] == task:
                groups[row["model_id"], row["gpu_model"], row["num_gpus"]].append(row)
    runs = {}
    for rows in groups.values():
        first = rows[0]

        def column(name: str, rows: list[dict[str, str]] = rows) -> Column:
            return np.array([float(row[name]) for row in rows])

        run = Runs(
            nickname=first["nickname"],
            gpu=first["gpu_model"],
            gpus=int(first["num_gpus"]),
            precision=first["weight_precision"],
            active_params_b=float(first["activated_params_billions"]),
            power_w=column("avg_power_watts"),
            token_s=column("output_throughput_tokens_per_sec"),
            batch=column("avg_batch_size"),
            median_itl_ms=column("median_itl_ms"),
            j_per_token=column("energy_per_token_joules"),
            max_num_seqs=column("max_num_seqs"),
        )
        runs[profile_name(first["model_id"], run)] = run
    return runs


def profile_name(model_id: str, run: Runs) -> str:
    """``llama-3.1-8b@1xh100`` of ``meta-llama/Llama-3.1-8B-Instruct`` on one H100."""
    model = model_id.rpartition("/")[2].lower()
    for suffix in ("-fp8", "-instruct", "-it"):
        model = model.removesuffix(suffix)
    model = model.removeprefix("nvidia-")
    return f"{model.removesuffix('-instruct')}@{run.gpus}x{run.gpu.lower()}"


def read_prefill(path: Path) -> Line:
    """Prompt time in ms over prompt tokens, batch 1, of the reference in splitwise-sim."""
    tokens, times = [], []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            name = (row["model"], row["hardware"], row["tensor_parallel"])
            prompt = int(row["prompt_size"])
            if name == REFERENCE and row["batch_size"] == "1" and prompt in PROMPTS:
                tokens.append(float(prompt))
                times.append(float(row["prompt_time"]))
    return fit_line(np.array(tokens), np.array(times))


class Fit(NamedTuple):
    """The fitted lines of one profile."""

    power: Line
    tpot: Line
    j_error: float

    @property
    def good(self) -> bool:
        """Both affine models explain the measurements, and so does what follows from them."""
        return min(self.power.r2, self.tpot.r2) >= MIN_R2 and self.j_error <= MAX_J_ERROR


def fit(run: Runs) -> Fit:
    """Power over token rate, mean time per token over batch, largest error in J/token."""
    power, tpot = fit_line(run.token_s, run.power_w), fit_line(run.batch, run.mean_tpot_ms)
    implied = run.batch * 1000.0 / (tpot.base + tpot.slope * run.batch)
    error = (power.base / implied + power.slope) / run.j_per_token - 1.0
    return Fit(power, tpot, float(abs(error).max()))


def target_batch(run: Runs, tpot: Line) -> int:
    """The largest measured batch at most half the limit whose TPOT is within TARGET_TPOT_MS."""
    limit = float(run.max_num_seqs.max()) / 2
    fitting = [
        batch
        for batch in run.max_num_seqs
        if batch <= limit and tpot.base + tpot.slope * batch <= TARGET_TPOT_MS
    ]
    return int(max(fitting, default=float(run.max_num_seqs.min())))


def render(run: Runs, found: Fit, prefill: Line, reference_tpot: Line) -> str:
    """The YAML of one profile, without its name."""
    scale = run.active_params_b / REFERENCE_PARAMS * REFERENCE_GPUS / run.gpus
    per_token = prefill.slope * scale / PEAK[run.gpu, run.precision]
    base = prefill.base * found.tpot.base / reference_tpot.base
    source = (
        f"ML.ENERGY Benchmark V3, {TASK}, {run.nickname.removesuffix(' FP8')} {run.precision}, "
        f"{run.gpus}x {run.gpu}, {len(run.batch)} batch sizes, "
        f"r2 {found.power.r2:.2f} (power) and {found.tpot.r2:.2f} (TPOT), "
        f"J/token within {found.j_error:.0%}; prefill, idle_w, host_fraction estimated"
    )
    return "\n".join(
        [
            "    kind: token",
            f"    idle_w: {IDLE_W[run.gpu] * run.gpus:.0f}",
            f"    base_w: {found.power.base:.0f}",
            f"    w_per_token_s: {found.power.slope:.4f}",
            f"    tpot_base_ms: {found.tpot.base:.2f}",
            f"    tpot_ms_per_sequence: {found.tpot.slope:.4f}",
            f"    prefill_base_ms: {base:.1f}",
            f"    prefill_ms_per_token: {per_token:.4f}",
            f"    max_batch: {run.max_num_seqs.max():.0f}",
            f"    target_batch: {target_batch(run, found.tpot)}",
            f"    host_fraction: {HOST_FRACTION}",
            "    provenance: measured",
            f'    source: "{source}"',
        ]
    )


HEADER = """\
# Energy and latency of model servers under load, one profile a model and GPU group. Written by
# tools/fit_profiles.py; fit your own hardware the same way and list it under `profiles:`.
#
# Measured: base_w, w_per_token_s, tpot_base_ms and tpot_ms_per_sequence are least-squares fits to
#   The ML.ENERGY Benchmark V3 data set (Apache-2.0, ml-energy/data, as published by
#   ml-energy/leaderboard@0cd52da), task lm-arena-chat, GPU group in steady state. Only models
#   whose two fits reach r2 >= 0.9 over at least five batch sizes, and whose J/token then follows
#   within 15 %, are listed. TPOT is the mean time per token, batch / throughput: it contains the
#   pauses for other requests' prompts, which the median inter-token latency leaves out, and with
#   it P(x) / x meets the measured J/token (with the median it falls up to 22 % short). Energy of
#   prompts is therefore inside the J per output token, at that task's prompt lengths.
# max_batch: the largest max_num_seqs that was measured.
# target_batch: the load that prices long-run energy. The largest measured batch, at most half of
#   max_batch, at which TPOT stays within 40 ms (25 tokens a second to each reader).
# Estimated: prefill_*, scaled from llama2-70b on 4x H100 (prompt time over 128..2048 tokens at
#   batch 1; splitwise-sim, MIT, Copyright (c) 2024 Pratyush Patel). The slope scales with active
#   parameters per GPU and inversely with peak tensor throughput at the weights' precision, the
#   base with tpot_base_ms. Not measured on these servers: calibrate where TTFT budgets are tight.
# Estimated: idle_w, 90 W an H100 and 120 W a B200. Loaded GPUs without work were seen at 60 to
#   120 W each.
# Estimated: host_fraction 0.3. CPU and DRAM added 27 to 39 % to the energy of two GPUs in nine
#   measured runs (TokenPowerBench); it differs by server.
profiles:
"""


def build(folder: Path) -> str:
    """The whole file."""
    runs = read_runs(folder / "mlenergy_v3_llm_h100_b200.csv")
    prefill = read_prefill(folder / "splitwise_perf_power.csv")
    reference_tpot = fit(runs["llama-3.1-70b@4xh100"]).tpot
    parts = []
    for name, run in sorted(runs.items()):
        found = fit(run)
        if len(run.batch) >= MIN_POINTS and found.good:
            parts.append(f"  {name}:\n{render(run, found, prefill, reference_tpot)}\n")
    return HEADER + "\n".join(parts)


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
        print(f"{TARGET} is out of date; run tools/fit_profiles.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

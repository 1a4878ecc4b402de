"""Fit router/data/profiles.yaml from the measured sets; `--check` compares instead of writing.

    python tools/fit_profiles.py FOLDER [--check | --evidence]

FOLDER holds mlenergy_v3_llm_h100_b200.csv (ML.ENERGY Benchmark V3, Apache-2.0) and
splitwise_perf_power.csv (splitwise-sim, MIT). The written file's header says what each figure is;
`--evidence` prints what the fits predict of tasks that they have not seen, and what they owe to the
assumed length of prompts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from serving_fit import (
    DOUBLES_AT,
    PROMPT_TOKENS,
    Fit,
    Line,
    Runs,
    fit,
    prompt_ms,
    read_reference,
    read_runs,
    reference_rows,
)
from serving_hardware import CARDS

TARGET = Path(__file__).resolve().parents[1] / "router" / "data" / "profiles.yaml"
RUNS = "mlenergy_v3_llm_h100_b200.csv"
SPLITWISE = "splitwise_perf_power.csv"
MIN_R2 = 0.9
MIN_POINTS = 5
MAX_J_ERROR = 0.15
TASK = "lm-arena-chat"
PREFILL_SHARES = (0.85, 0.95, 1.0)
HOST_W_PER_GPU = 105.0
TARGET_TPOT_MS = 40.0
REFERENCE_PROFILE = "llama-3.1-70b@4xh100"


def good(run: Runs, found: Fit) -> bool:
    """Both models explain the measurements, and so does what follows from them."""
    return (
        len(run.batch) >= MIN_POINTS
        and min(found.power_r2, found.tpot_r2) >= MIN_R2
        and found.j_error <= MAX_J_ERROR
    )


def target_batch(run: Runs, found: Fit) -> int:
    """The largest measured batch at most half the limit whose TPOT is within TARGET_TPOT_MS."""
    limit = float(run.max_num_seqs.max()) / 2
    tpot = found.tpot_ms(run.max_num_seqs, PROMPT_TOKENS, run.answer_tokens)
    fits = (run.max_num_seqs <= limit) & (tpot <= TARGET_TPOT_MS)
    return int(run.max_num_seqs[fits].max() if fits.any() else run.max_num_seqs.min())


def first_ms(run: Runs, found: Fit, reference: Line, reference_d0_ms: float) -> float:
    """What goes by before a prompt's first iteration: the reference's intercept, scaled with the
    empty iteration, less that iteration itself and what comes with every piece.
    """
    whole = reference.base * found.d0_ms / reference_d0_ms
    return max(0.0, whole - found.d0_ms - found.prefill.per_piece_ms)


def render(run: Runs, found: Fit, before_ms: float) -> str:
    """The YAML of one profile, without its name."""
    limit_w = CARDS[run.gpu].limit_w * run.gpus
    low_w, w, high_w = (limit_w * share for share in PREFILL_SHARES)
    piece = "prefill_ms_per_piece measured, the rest of " if found.prefill.per_piece_ms else ""
    source = (
        f"ML.ENERGY Benchmark V3, {TASK}, {run.nickname.removesuffix(' FP8')} {run.precision}, "
        f"{run.gpus}x {run.gpu}, {len(run.batch)} batch sizes, "
        f"r2 {found.power_r2:.2f} (power) and {found.tpot_r2:.2f} (TPOT), "
        f"J/token within {found.j_error:.0%}; prompts of {PROMPT_TOKENS:.0f} tokens taken out; "
        f"{piece}prefill, tpot_ms_per_cached_token, idle_w and host estimated"
    )
    return "\n".join(
        [
            "    kind: token",
            f"    idle_w: {CARDS[run.gpu].idle_w * run.gpus:.0f}",
            f"    base_w: {found.base_w:.0f}",
            f"    w_per_token_s: {found.w_per_token_s:.4f}",
            f"    tpot_base_ms: {found.d0_ms:.2f}",
            f"    tpot_ms_per_sequence: {found.d1_ms:.4f}",
            f"    tpot_ms_per_cached_token: {found.d2_ms:.2e}",
            f"    prefill_base_ms: {before_ms:.1f}",
            f"    prefill_ms_per_piece: {found.prefill.per_piece_ms:.1f}",
            f"    prefill_ms_per_token: {found.prefill.per_token_ms:.4f}",
            f"    prefill_ms_per_token2: {found.prefill.per_token2_ms:.2e}",
            f"    prefill_w: {w:.0f}",
            f"    prefill_w_low: {low_w:.0f}",
            f"    prefill_w_high: {high_w:.0f}",
            f"    max_batched_tokens: {CARDS[run.gpu].batched_tokens}",
            f"    max_batch: {run.max_num_seqs.max():.0f}",
            f"    target_batch: {target_batch(run, found)}",
            "    host_fraction: 0",
            f"    host_awake_w: {HOST_W_PER_GPU * run.gpus:.0f}",
            f"    host_idle_w: {HOST_W_PER_GPU * run.gpus:.0f}",
            "    provenance: measured",
            f'    source: "{source}"',
        ]
    )


HEADER = """\
# Energy and latency of model servers under load, one profile a model and GPU group. Written by
# tools/fit_profiles.py; fit your own hardware the same way and list it under `profiles:`. The law
# that the figures are terms of: docs/config.md, `profiles`, and docs/energy.md.
#
# Measured: base_w, w_per_token_s, tpot_base_ms and tpot_ms_per_sequence are least-squares fits to
#   The ML.ENERGY Benchmark V3 data set (Apache-2.0, ml-energy/data, as published by
#   ml-energy/leaderboard@0cd52da), task lm-arena-chat, GPU group in steady state. Only models
#   whose two fits reach r2 >= 0.9 over at least five batch sizes, and whose J/token then follows
#   within 15 %, are listed. What prompts took of time and power is taken out first, and what the
#   cached tokens of that task took out of tpot_ms_per_sequence.
# Assumed: prompts of 224 tokens in that task. The set has no lengths; its authors name 634 and 224
#   tokens as the mean inputs of problem solving and text conversation. What answers cost depends
#   on it, J/token of that task does not: with 112 tokens tpot_ms_per_sequence of llama-3.1-70b were
#   a half more and w_per_token_s a third more; with 448 the first were 0, the second a third of it.
# Measured where it is not 0: prefill_ms_per_piece, what the same runs' latencies show prompts to
#   take (mean less median gap between tokens, times requests) beyond the two terms below.
# Estimated: prefill_ms_per_token, scaled from llama2-70b on 4x H100 (prompt time over 128..2048
#   tokens at batch 1; splitwise-sim, MIT, Copyright (c) 2024 Pratyush Patel), with active
#   parameters per GPU and inversely with peak tensor throughput at bf16 (fp8 counts 1.15 times).
#   The same runs' latencies bear it out: a prompt took dense models on H100s 0.65 to 1.0 times it.
# Estimated: prefill_ms_per_token2, a ten-thousandth of prefill_ms_per_token on that reference,
#   which then meets its 4096 and 8192 tokens within 5 %, scaled with layers times attention width.
# Estimated: prefill_base_ms, that reference's intercept scaled with tpot_base_ms, less
#   tpot_base_ms, which is in every iteration. Calibrate where TTFT budgets are tight.
# Estimated: tpot_ms_per_cached_token, a token's bytes of keys and values over 0.7 of the cards'
#   memory bandwidth. Qwen 3 of 8B to 32B on H100s reached 0.56 to 0.86 between chat and reasoning.
# Estimated: prefill_w, 0.95 of the cards' power limits (H100 700 W, B200 1000 W), between 0.85
#   and 1. A100s reading prompts peaked at 1.00 to 1.08 of theirs (splitwise-sim).
# max_batched_tokens: what vLLM takes by default on these cards. The runs were made with 8192.
# max_batch: the largest max_num_seqs that was measured.
# target_batch: the load that prices long-run energy. The largest measured batch, at most half of
#   max_batch, at which TPOT stays within 40 ms (25 tokens a second to each reader).
# Estimated: idle_w, 90 W an H100 and 120 W a B200. Loaded GPUs without work were seen at 60 to
#   120 W each.
# Estimated: host_awake_w, 105 W a GPU. CPU and DRAM drew 199 to 212 W beside two GPUs in nine
#   runs (TokenPowerBench), whatever those drew (541 to 769 W). host_idle_w: assumed equal.
profiles:
"""


def fits(folder: Path, prompt: float = PROMPT_TOKENS) -> dict[str, tuple[Runs, Fit]]:
    """Runs and fit of every profile that the file lists."""
    reference = read_reference(folder / SPLITWISE)
    found = {
        name: (run, fit(run, reference, prompt))
        for name, run in sorted(read_runs(folder / RUNS, TASK).items())
    }
    return {name: (run, made) for name, (run, made) in found.items() if good(run, made)}


def build(folder: Path) -> str:
    """The whole file."""
    reference = read_reference(folder / SPLITWISE)
    listed = fits(folder)
    d0_ms = listed[REFERENCE_PROFILE][1].d0_ms
    return HEADER + "\n".join(
        f"  {name}:\n{render(run, found, first_ms(run, found, reference, d0_ms))}\n"
        for name, (run, found) in listed.items()
    )


# Other tasks of the same set, with prompts that are assumed likewise: problem solving by the set's
# authors, an image of Gemma 3 as its makers say (256 tokens) and a line of text.
OTHER_TASKS = {"gpqa": 634.0, "image-chat": 330.0}
# The same architecture under another name, one task each.
SAME_SHAPE = {"qwen3-coder-30b-a3b@1xh100": "qwen3-30b-a3b-2507@1xh100"}


def evidence(folder: Path) -> str:
    """What the fits predict of what they have not seen, and what they owe to what is assumed."""
    reference = read_reference(folder / SPLITWISE)
    lines = ["Prompt time of the reference, predicted over measured:"]
    for tokens in (512, 1024, 2048, 4096, 8192):
        measured = float(
            np.median([ms for n, ms in reference_rows(folder / SPLITWISE) if n == tokens])
        )
        made = reference.base + reference.slope * (tokens + tokens**2 / 2 / DOUBLES_AT)
        lines.append(
            f"  {tokens} tokens: {made:.0f} / {measured:.0f} ms ({made / measured - 1:+.0%})"
        )
    lines.append(
        f"Time of one prompt of {TASK}, scaled ({PROMPT_TOKENS:.0f} tokens) over measured:"
    )
    for name, (run, found) in fits(folder).items():
        scaled = found.prefill._replace(per_piece_ms=0.0).time_ms(PROMPT_TOKENS)
        lines.append(f"  {name}: {scaled:.1f} / {prompt_ms(run):.1f} ms")
    lines.append("Terms with prompts half, as and twice as long as assumed:")
    for name in (REFERENCE_PROFILE, "llama-3.1-8b@1xh100", "llama-3.1-405b@8xh100"):
        for factor in (0.5, 1.0, 2.0):
            _, found = fits(folder, PROMPT_TOKENS * factor)[name]
            lines.append(
                f"  {name}, {PROMPT_TOKENS * factor:.0f} tokens: base {found.base_w:.0f} W, "
                f"{found.w_per_token_s:.4f} J/token, TPOT {found.d0_ms:.2f} + {found.d1_ms:.4f} b"
            )
    lines.append(
        "J per output token of other tasks at the same batch: measured; over it what the law"
    )
    lines.append(f"predicts, and what {TASK} took:")
    chat = {run.name: run for run in read_runs(folder / RUNS, TASK).values()}
    for task, prompt in OTHER_TASKS.items():
        for name, run in sorted(read_runs(folder / RUNS, task).items()):
            key = name.replace("qwen3-vl", "qwen3")
            if key in fits(folder):
                lines += _against(f"{task}, {name}", run, chat[key], reference, prompt)
    for name, key in SAME_SHAPE.items():
        run = read_runs(folder / RUNS, "sourcegraph-fim")[name]
        made = fit(chat[key], reference).prefill
        prompt = (prompt_ms(run) - made.per_piece_ms) / made.per_token_ms
        told = (
            f"sourcegraph-fim, {name} (prompts of {prompt:.0f} tokens, as its own latencies tell)"
        )
        lines += _against(told, run, chat[key], reference, prompt)
    return "\n".join(lines)


def _against(told: str, run: Runs, chat: Runs, reference: Line, prompt: float) -> list[str]:
    law = fit(chat, reference).j_per_token(run.batch, prompt, run.answer_tokens)
    as_chat = np.interp(run.batch, chat.batch, chat.j_per_token)
    lines = [f"  {told}:"]
    for batch, j, predicted, same in zip(run.batch, run.j_per_token, law, as_chat, strict=True):
        lines.append(f"    batch {batch:4.0f}: {j:.3f} J, {predicted / j:.2f}, {same / j:.2f}")
    return lines


def main() -> int:
    """Write the file; ``--check``: say whether it is up to date; ``--evidence``: print that."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--evidence", action="store_true")
    arguments = parser.parse_args()
    if arguments.evidence:
        print(evidence(arguments.folder))
        return 0
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

"""The law of an iteration, fitted to measured runs of model servers. Read by fit_profiles.py.

An iteration with b decoding sequences, C cached tokens and prompt pieces of k tokens after p lasts
d0 + d1 b + d2 C + sum(e + c k + a k (p + k/2)). Where the same b requests run all the time, each of
them reads one prompt for every answer, so that with answers of N tokens

    TPOT = d0 + (d1 + d2 C1) b + (b / N) T,    T = e + c L + a L^2 / 2

holds: T is what one prompt of L tokens takes, C1 = L + N/2 what a sequence has cached on average.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from serving_hardware import ATTENTION, CARDS, FP8_SPEED

# Mean prompt of the task whose runs are fitted. The set has no prompt lengths. Its authors give
# mean inputs of "634 vs. 224" tokens for problem solving against text conversation
# (ml-energy/blog, "Reading the ML.ENERGY Leaderboard v3.0", January 2026). The set's own latencies
# bear out 224: on dense bf16 models prompts take the time of 150 to 250 tokens a request
# (`prompt_ms` below; 634 would be three times too much).
PROMPT_TOKENS = 224.0
MS = 1000.0
REFERENCE = ("llama2-70b", "h100-80gb", "4")
REFERENCE_PARAMS = 70.0
REFERENCE_GPUS = 4
REFERENCE_WORK = ATTENTION["llama-3.1-70b"].work()
REFERENCE_PROMPTS = range(128, 2049)
# Prompt tokens at which one more costs twice what the first did, on the reference.
DOUBLES_AT = 10_000.0
# Of the cards' peak memory bandwidth, what reading the cache of a decode step reaches. Qwen 3 8B,
# 14B and 32B on H100s gave 0.56 to 0.86 between chat and long reasoning at batches 8 to 64.
BANDWIDTH_SHARE = 0.7
# The median gap between two tokens carries no prompt while so few start in an iteration.
MOST_PROMPTS_PER_ITERATION = 0.4

Column = npt.NDArray[np.float64]


class Line(NamedTuple):
    """y = base + slope * x, with the coefficient of determination."""

    base: float
    slope: float
    r2: float


class Runs(NamedTuple):
    """One model on one GPU group over batch sizes. Columns are equally long.

    ``median_itl_ms`` is NaN where the set does not give it.
    """

    model: str
    nickname: str
    gpu: str
    gpus: int
    precision: str
    active_params_b: float
    total_params_b: float
    power_w: Column
    token_s: Column
    batch: Column
    median_itl_ms: Column
    j_per_token: Column
    max_num_seqs: Column
    answer_tokens: Column

    @property
    def name(self) -> str:
        """``llama-3.1-8b@1xh100``."""
        return f"{self.model}@{self.gpus}x{self.gpu.lower()}"

    @property
    def mean_tpot_ms(self) -> Column:
        """Mean time between two tokens of one sequence: batch / throughput."""
        return self.batch / self.token_s * MS


class Prefill(NamedTuple):
    """What reading prompts takes. ``first_ms`` goes by before it, on no GPU."""

    first_ms: float
    per_piece_ms: float
    per_token_ms: float
    per_token2_ms: float

    def time_ms(self, tokens: float) -> float:
        """GPU time of one prompt of ``tokens`` in one piece, beside the iteration's own."""
        return self.per_piece_ms + self.per_token_ms * tokens + self.per_token2_ms * tokens**2 / 2


class Fit(NamedTuple):
    """Everything that the fit says of one model on one GPU group."""

    base_w: float
    w_per_token_s: float
    prefill_w: float
    d0_ms: float
    d1_ms: float
    d2_ms: float
    prefill: Prefill
    power_r2: float
    tpot_r2: float
    j_error: float

    def tpot_ms(self, batch: Column, prompt: float, answer: Column) -> Column:
        """Mean TPOT at a steady ``batch`` of such requests."""
        cached = prompt + answer / 2
        decode = self.d0_ms + (self.d1_ms + self.d2_ms * cached) * batch
        return decode + batch / answer * self.prefill.time_ms(prompt)

    def j_per_token(self, batch: Column, prompt: float, answer: Column) -> Column:
        """GPU joules per output token at a steady ``batch`` of such requests."""
        tpot = self.tpot_ms(batch, prompt, answer)
        share = batch / answer * self.prefill.time_ms(prompt) / tpot
        power = self.base_w * (1 - share) + self.prefill_w * share
        return power * tpot / MS / batch + self.w_per_token_s


def model_name(model_id: str) -> str:
    """``llama-3.1-8b`` of ``meta-llama/Llama-3.1-8B-Instruct``."""
    model = model_id.rpartition("/")[2].lower()
    for suffix in ("-fp8", "-bf16", "-it", "-hf"):
        model = model.removesuffix(suffix)
    return model.removeprefix("nvidia-").removeprefix("meta-").replace("-instruct", "", 1)


def attention(model: str) -> str:
    """The key of ``model`` in ATTENTION: the longest one that it begins with."""
    plain = model.replace("qwen3-coder-30b", "qwen3-30b").replace("qwen3-vl", "qwen3")
    return max((key for key in ATTENTION if plain.startswith(key)), key=len)


def fit_line(x: Column, y: Column) -> Line:
    """Ordinary least squares."""
    slope, base = np.polyfit(x, y, 1)
    return Line(float(base), float(slope), _r2(y, base + slope * x))


def _r2(y: Column, fitted: Column) -> float:
    return 1.0 - float(((y - fitted) ** 2).sum()) / float(((y - y.mean()) ** 2).sum())


def read_runs(path: Path, task: str) -> dict[str, Runs]:
    """Runs of one task of ML.ENERGY V3 by profile name."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["task"] == task:
                groups[row["model_id"], row["gpu_model"], row["num_gpus"]].append(row)
    runs: dict[str, Runs] = {}
    for rows in groups.values():
        first = rows[0]

        def column(name: str, rows: list[dict[str, str]] = rows) -> Column:
            return np.array([float(row[name]) for row in rows])

        run = Runs(
            model=model_name(first["model_id"]),
            nickname=first["nickname"],
            gpu=first["gpu_model"],
            gpus=int(first["num_gpus"]),
            precision=first["weight_precision"],
            active_params_b=float(first["activated_params_billions"]),
            total_params_b=float(first["total_params_billions"]),
            power_w=column("avg_power_watts"),
            token_s=column("output_throughput_tokens_per_sec"),
            batch=column("avg_batch_size"),
            median_itl_ms=column("median_itl_ms"),
            j_per_token=column("energy_per_token_joules"),
            max_num_seqs=column("max_num_seqs"),
            answer_tokens=column("avg_output_len"),
        )
        # The same model in bf16 and fp8 on as many GPUs: the one with more batch sizes.
        if run.name not in runs or len(runs[run.name].batch) < len(run.batch):
            runs[run.name] = run
    return runs


def read_reference(path: Path) -> Line:
    """Prompt time in ms over prompt tokens, batch 1, of the reference in splitwise-sim."""
    rows = [row for row in reference_rows(path) if row[0] in REFERENCE_PROMPTS]
    return fit_line(np.array([n for n, _ in rows], float), np.array([ms for _, ms in rows]))


def reference_rows(path: Path) -> list[tuple[int, float]]:
    """(prompt tokens, ms) of every run of the reference at batch 1."""
    with path.open(newline="") as file:
        return [
            (int(row["prompt_size"]), float(row["prompt_time"]))
            for row in csv.DictReader(file)
            if (row["model"], row["hardware"], row["tensor_parallel"]) == REFERENCE
            and row["batch_size"] == "1"
        ]


def prompt_ms(run: Runs) -> float:
    """GPU time that one request's prompt took, as the run's own latencies tell: the mean gap
    between tokens less the median one, which carries no prompt. NaN where not known.
    """
    few = run.batch / run.answer_tokens < MOST_PROMPTS_PER_ITERATION
    if not few.any():
        return float("nan")
    lost = (run.mean_tpot_ms - run.median_itl_ms) * run.answer_tokens / run.batch
    return float(np.median(lost[few]))


def scaled_prefill(run: Runs, reference: Line) -> Prefill:
    """The reference's times, scaled to the work of ``run``'s model on its GPUs."""
    speed = CARDS[run.gpu].speed * (FP8_SPEED if run.precision in ("fp8", "mxfp4") else 1.0)
    gpus = REFERENCE_GPUS / run.gpus / speed
    per_token = reference.slope * run.active_params_b / REFERENCE_PARAMS * gpus
    work = ATTENTION[attention(run.model)].work() / REFERENCE_WORK
    per_token2 = reference.slope / DOUBLES_AT * work * gpus
    prefill = Prefill(0.0, 0.0, per_token, per_token2)
    measured = prompt_ms(run)
    # What the run shows beyond that comes with each prompt, however long: experts that decoding
    # does not touch, state-space layers, launches.
    more = measured - prefill.time_ms(PROMPT_TOKENS)
    return prefill._replace(per_piece_ms=max(0.0, more) if measured == measured else 0.0)


def cached_token_ms(run: Runs) -> float:
    """d2: the bytes that a step reads of one cached token, over what the cards deliver."""
    kind = ATTENTION[attention(run.model)]
    cards = run.gpus if kind.split else 1
    delivered = CARDS[run.gpu].bytes_per_s * BANDWIDTH_SHARE * cards
    return kind.cached_bytes_per_token() / delivered * MS


def fit(
    run: Runs, reference: Line, prompt: float = PROMPT_TOKENS, prefill_share: float = 0.95
) -> Fit:
    """The law's terms for ``run``, whose prompts had ``prompt`` tokens on average."""
    prefill = scaled_prefill(run, reference)
    prompts_ms = run.batch / run.answer_tokens * prefill.time_ms(prompt)
    decode = fit_line(run.batch, run.mean_tpot_ms - prompts_ms)
    cached = float(prompt + run.answer_tokens.mean() / 2)
    d2 = cached_token_ms(run)
    share = prompts_ms / run.mean_tpot_ms
    prefill_w = CARDS[run.gpu].limit_w * run.gpus * prefill_share
    terms = np.column_stack([1 - share, run.token_s])
    (base_w, slope), *_ = np.linalg.lstsq(terms, run.power_w - prefill_w * share, rcond=None)
    found = Fit(
        base_w=float(base_w),
        w_per_token_s=float(slope),
        prefill_w=prefill_w,
        d0_ms=decode.base,
        d1_ms=max(0.0, decode.slope - d2 * cached),
        d2_ms=d2,
        prefill=prefill,
        power_r2=_r2(run.power_w, terms @ np.array([base_w, slope]) + prefill_w * share),
        tpot_r2=_r2(run.mean_tpot_ms, prompts_ms + decode.base + decode.slope * run.batch),
        j_error=0.0,
    )
    implied = found.j_per_token(run.batch, prompt, run.answer_tokens)
    return found._replace(j_error=float(abs(implied / run.j_per_token - 1.0).max()))

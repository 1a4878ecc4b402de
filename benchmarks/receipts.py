"""How far a receipt is from the truth, for unary answers of a language model.

The emulator's replica serves Poisson arrivals with log-normal answers and knows what each took.
`router.core.accounting` sees what a gateway sees: when the answer came, how many requests were
there at its start and its end, and, by column, nothing else, its bytes, or its tokens. ``expected
length`` is what receipts said before: the model's mean length at P(x) / x, whatever the answer.

    python -m benchmarks.receipts            # half a minute
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from router.config import shipped_profiles
from router.contract import AnswerSize, BackendReport
from router.core.accounting import Run, account
from router.core.burden import context_tokens
from router.core.energy import Crowd, predict_run
from router.core.lengths import Expected
from router.core.tokens import TokenBytesModel
from router.lab.replay.replica import Ended, Replica
from router.model import UNBURDENED, Decision, Request, TokenProfile
from tests import factories as f

INPUT_TOKENS, OUTPUT_TOKENS, LOG_SD = 180.0, 200.0, 0.9
# Of English text by a common tokenizer, with its spread over answers: assumed, not measured.
BYTES_PER_TOKEN, BYTES_LOG_SD = 4.4, 0.15
EXPECTED = Expected(INPUT_TOKENS, OUTPUT_TOKENS, 4.0 * OUTPUT_TOKENS)
NAN = math.nan
WAYS = ("expected length", "time", "bytes and time", "tokens reported")


class Served(NamedTuple):
    """One request: the truth, and the load at its two ends."""

    ended: Ended
    batches: tuple[int, int]
    output_bytes: float

    @property
    def run_ms(self) -> float:
        return (self.ended.at - self.ended.admitted_at) * 1e3


@dataclass
class Errors:
    """Said over true, and how often the truth was inside the interval."""

    tokens: list[float] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)
    tokens_inside: int = 0
    energy_inside: int = 0
    said_j: float = 0.0
    true_j: float = 0.0


def crowd_of(profile: TokenProfile, batch: float) -> Crowd:
    """So many requests of the expected lengths, as a gateway that sent them knows them."""
    pace_ms = profile.prompt_ms(INPUT_TOKENS) / OUTPUT_TOKENS
    context = context_tokens(INPUT_TOKENS, OUTPUT_TOKENS)
    return Crowd(batch, max(0.0, batch - 1.0) * pace_ms, batch * context)


def iteration_ms(profile: TokenProfile, batch: float) -> float:
    """The mean iteration of so many."""
    crowd = crowd_of(profile, batch)
    return profile.tpot_ms(batch, crowd.cached_tokens, crowd.prompts_ms)


def serve(profile: TokenProfile, batch: float, count: int, rng: random.Random) -> Iterator[Served]:
    """``count`` requests at a rate that keeps about ``batch`` of them on the replica."""
    replica = Replica(profile, 0.0)
    there_ms = OUTPUT_TOKENS * iteration_ms(profile, max(batch, 1.0))
    per_s = batch / (there_ms / 1e3)
    there: dict[int, int] = {}
    arrives, key, done = rng.expovariate(per_s), 0, 0
    while done < count:
        at = min(arrives, replica.next_event_at())
        for event in replica.advance(at):
            if isinstance(event, Ended):
                assert isinstance(event.key, int)
                ends = (there.pop(event.key), len(there) + 1)
                density = BYTES_PER_TOKEN * math.exp(rng.gauss(0.0, BYTES_LOG_SD))
                yield Served(event, ends, event.output_tokens * density)
                done += 1
        if at == arrives:
            key += 1
            mean = math.log(OUTPUT_TOKENS) - LOG_SD**2 / 2.0
            there[key] = len(there) + 1
            tokens = max(1.0, round(math.exp(rng.gauss(mean, LOG_SD))))
            replica.admit(at, key, INPUT_TOKENS, tokens, 0)
            arrives += rng.expovariate(per_s)


def errors(profile: TokenProfile, served: list[Served], way: str) -> Errors:
    """What receipts by ``profile`` say of ``served``."""
    found, bytes_per_token = Errors(), TokenBytesModel()
    model = f.served(profile, "m")
    decision = Decision(
        f.endpoint("e", "r", model, max_in_flight=1024), model, None, NAN, 0.0, NAN, NAN, NAN, NAN,
        NAN, "", NAN, NAN, NAN, UNBURDENED, (), (),
    )  # fmt: skip
    for one in served:
        truth = one.ended
        batch = sum(one.batches) / 2.0
        size = one.output_bytes if way == "bytes and time" else NAN
        told = truth.output_tokens if way == "tokens reported" else NAN
        if way == "expected length":
            crowd = crowd_of(profile, batch)
            said_j = predict_run(profile, INPUT_TOKENS, OUTPUT_TOKENS, crowd).attributional_j
            tokens, low, high, low_j, high_j = OUTPUT_TOKENS, NAN, NAN, NAN, NAN
        else:
            share = sum(1.0 / end for end in one.batches) / 2.0
            run = Run(
                0, crowd_of(profile, batch), NAN, one.run_ms, 0.0, 1.0, AnswerSize(size, NAN), share
            )
            made = account(
                Request("m"), decision, run, BackendReport(NAN, NAN, told), EXPECTED,
                bytes_per_token.of("m"),
            )  # fmt: skip
            said_j, low_j, high_j = made.energy_j, made.energy_low_j, made.energy_high_j
            tokens, low, high, _ = made.tokens
            # As if one request in ten streamed.
            if len(found.tokens) % 10 == 0:
                bytes_per_token.observe("m", one.output_bytes, truth.output_tokens)
        found.tokens.append(tokens / truth.output_tokens)
        found.energy.append(said_j / truth.energy_j)
        found.tokens_inside += low <= truth.output_tokens <= high
        found.energy_inside += low_j <= truth.energy_j <= high_j
        found.said_j += said_j
        found.true_j += truth.energy_j
    return found


def spread(ratios: list[float]) -> str:
    ordered = sorted(ratios)
    return " ".join(f"{ordered[int(q * (len(ordered) - 1))]:.2f}" for q in (0.05, 0.5, 0.95))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="llama-3.1-8b@1xh100")
    parser.add_argument("--requests", type=int, default=2000, help="a row")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    profile = shipped_profiles()[wanted.profile]
    assert isinstance(profile, TokenProfile), "give a token profile"
    table = Table(title=f"{wanted.profile}: said over true at 5, 50 and 95 %", title_justify="left")
    for heading in ("server", "mean batch", "known", "tokens", "in", "joules", "in", "all joules"):
        table.add_column(heading)
    slow = replace(
        profile,
        tpot_base_ms=2.0 * profile.tpot_base_ms,
        tpot_ms_per_sequence=2.0 * profile.tpot_ms_per_sequence,
        tpot_ms_per_cached_token=2.0 * profile.tpot_ms_per_cached_token,
        prefill_ms_per_token=2.0 * profile.prefill_ms_per_token,
        prefill_ms_per_token2=2.0 * profile.prefill_ms_per_token2,
    )
    for server, true in (("as its profile", profile), ("half as fast", slow)):
        for batch in (0.05, 1.0, 4.0, 16.0, 64.0):
            rng = random.Random(wanted.seed)
            served = list(serve(true, batch, wanted.requests, rng))
            for way in WAYS:
                found = errors(profile, served, way)
                n = len(served)
                inside = "-" if way == WAYS[0] else f"{found.tokens_inside / n:.0%}"
                inside_j = "-" if way == WAYS[0] else f"{found.energy_inside / n:.0%}"
                table.add_row(
                    server, f"{batch:g}", way, spread(found.tokens), inside,
                    spread(found.energy), inside_j, f"{found.said_j / found.true_j:.2f}",
                )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

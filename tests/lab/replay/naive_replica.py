"""The slow, obvious twin of the replayed replica: every iteration is stepped through."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from router.lab.replay.physics import Physics
from tests.core.slow_prefixes import SlowCache


@dataclass
class Naive:
    key: int
    input_tokens: float
    output_tokens: float
    admitted_at: float
    ready_at: float
    chain: list = field(default_factory=list)
    slot: int = -1
    phase: str = "arriving"  # waiting, reading, decoding, ended
    read: float = 0.0
    made: float = 0.0
    piece_s: float = 0.0
    started_at: float = math.nan
    first_token_at: float = math.nan
    ended_at: float = math.nan
    finished: bool = False
    energy_j: float = 0.0
    prompt_j: float = 0.0
    marginal_j: float = 0.0


@dataclass
class Iteration:
    ends_at: float
    whole_s: float
    decode_s: float
    pieces: list = field(default_factory=list)


class NaiveReplica:
    """``grows``: a sequence's cached tokens are counted iteration by iteration, else their mean."""

    def __init__(self, profile, start, grows=False, block_tokens=32):
        self.p = Physics.of(profile)
        self.block_tokens = block_tokens
        self.kept = SlowCache(profile.prefix_cache_tokens // block_tokens)
        self.now = start
        self.grows = grows
        self.all = []
        self.iteration = None
        self.energy_j = 0.0
        self.idle_j = 0.0
        self.iterations = 0
        self.free = list(range(self.p.max_batch - 1, -1, -1))
        self.freed_at = {}

    def of(self, *phases):
        return [s for s in self.all if s.phase in phases]

    def slots(self):
        return self.of("reading", "decoding")

    def waiting(self):
        return self.of("waiting")

    def admit(self, now, key, input_tokens, output_tokens, chain=()):
        self.advance(now)
        ready_at = now + self.p.prefill_base_s
        self.all.append(Naive(key, input_tokens, output_tokens, now, ready_at, list(chain)))
        self.advance(now)

    def cancel(self, now, key):
        self.advance(now)
        (s,) = [s for s in self.all if s.key == key]
        if s.phase != "ended":
            s.output_tokens = s.made
            self.end(s, finished=False)
            self.advance(now)

    def end(self, s, finished):
        if s.slot >= 0:
            self.freed_at[s.slot] = self.now
            # Of those that came free at once the lowest first; of those never used the highest.
            self.free = sorted(
                [*self.free, s.slot],
                key=lambda one: (
                    self.freed_at.get(one, -1.0),
                    one if one in self.freed_at else -one,
                ),
            )
        s.phase, s.ended_at, s.finished = "ended", self.now, finished

    def context(self, s):
        return s.input_tokens + (s.made if self.grows else s.output_tokens / 2.0)

    def advance(self, now):
        while True:
            for s in self.of("arriving"):
                if s.ready_at <= self.now:
                    s.phase = "waiting"
            if self.iteration is None and (self.slots() or self.waiting()):
                self.begin()
            next_at = min([now, *(s.ready_at for s in self.of("arriving"))])
            if self.iteration is not None:
                next_at = min(next_at, self.iteration.ends_at)
            self.step(next_at)
            if self.iteration is not None and self.now >= self.iteration.ends_at:
                self.finish()
            elif self.now >= now:
                return

    def begin(self):
        for s in self.waiting():
            if self.free:
                s.phase, s.slot, s.started_at = "reading", self.free.pop(0), self.now
                s.read = self.warm_tokens(s)
        decoding = self.of("decoding")
        room = self.p.max_batched_tokens - len(decoding)
        decode_s = self.p.tpot_s(len(decoding), sum(self.context(s) for s in decoding))
        pieces = []
        reading = self.of("reading")
        for s in sorted(reading, key=lambda s: s.slot) if self.p.by_slot else reading:
            if room > 0:
                size = min(room, s.input_tokens - s.read)
                piece_s = self.p.piece_s(size, s.read)
                room -= size
                s.read += size
                pieces.append((s, piece_s))
        whole_s = decode_s + sum(piece_s for _, piece_s in pieces)
        for s, piece_s in pieces:
            base_s = piece_s + (0.0 if decoding else decode_s / len(pieces))
            alone_s = piece_s + (decode_s if len(pieces) == 1 and not decoding else 0.0)
            more_w = self.p.prefill_w - self.p.base_w
            s.prompt_j += self.p.base_w * base_s + more_w * piece_s
            s.energy_j += self.p.base_w * base_s + more_w * piece_s
            s.marginal_j += (self.p.base_w - self.p.idle_w) * alone_s + more_w * piece_s
        self.iterations += 1
        self.iteration = Iteration(self.now + whole_s, whole_s, decode_s, pieces)

    def warm_tokens(self, s):
        """Whole blocks of the server's own, and never the last token."""
        tokens, block = self.kept.matched(s.chain) * self.block_tokens, self.p.prefix_block
        while tokens > 0 and (tokens % block or tokens >= s.input_tokens):
            tokens -= 1
        return tokens

    def step(self, until):
        dt = until - self.now
        self.now = until
        if self.iteration is None:
            self.energy_j += self.p.idle_w * dt
            self.idle_j += self.p.idle_w * dt
            return
        part = dt / self.iteration.whole_s
        decode_s = part * self.iteration.decode_s
        self.energy_j += self.p.base_w * decode_s + self.p.prefill_w * (dt - decode_s)
        decoding, b = self.of("decoding"), len(self.slots())
        for s in decoding:
            s.made += part
            self.energy_j += self.p.j_per_token * part
            s.energy_j += self.p.base_w * decode_s / len(decoding) + self.p.j_per_token * part
            if b == 1:
                awake_s = decode_s
            elif self.waiting() and b == self.p.max_batch:
                awake_s = decode_s / len(decoding)
            else:
                slower_s = self.p.tpot_s_per_sequence
                slower_s += self.p.tpot_s_per_cached_token * self.context(s)
                awake_s = part * slower_s
            s.marginal_j += (self.p.base_w - self.p.idle_w) * awake_s + self.p.j_per_token * part

    def finish(self):
        for s in self.of("decoding"):
            s.made = float(round(s.made))
            if s.made >= s.output_tokens:
                self.end(s, finished=True)
        for s, _ in self.iteration.pieces:
            if s.phase == "reading" and s.read >= s.input_tokens:
                s.phase, s.first_token_at, s.made = "decoding", self.now, 1.0
                self.kept.keep(s.chain)
                self.energy_j += self.p.j_per_token
                s.energy_j += self.p.j_per_token
                s.marginal_j += self.p.j_per_token
        for s in self.of("decoding"):
            if s.made >= s.output_tokens:
                self.end(s, finished=True)
        self.iteration = None

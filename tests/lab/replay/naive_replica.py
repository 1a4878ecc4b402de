"""The slow, obvious twin of the replayed replica: every sequence is advanced at every event."""

from __future__ import annotations

import math
from dataclasses import dataclass

from router.lab.replay.replica import Physics


@dataclass
class Naive:
    key: int
    input_tokens: float
    output_tokens: float
    admitted_at: float
    phase: str = "waiting"
    prefill_left_s: float = 0.0
    tokens_left: float = 0.0
    started_at: float = math.nan
    first_token_at: float = math.nan
    ended_at: float = math.nan
    finished: bool = False
    gpu_j: float = 0.0
    marginal_j: float = 0.0

    @property
    def made(self):
        return self.output_tokens - self.tokens_left if self.phase in ("decoding", "ended") else 0.0


class NaiveReplica:
    def __init__(self, profile, start):
        self.p = Physics.of(profile)
        self.now = start
        self.all = []
        self.energy_j = 0.0
        self.busy_s = 0.0

    def slots(self):
        return [s for s in self.all if s.phase in ("prefilling", "decoding")]

    def waiting(self):
        return [s for s in self.all if s.phase == "waiting"]

    def admit(self, now, key, input_tokens, output_tokens):
        self.advance(now)
        self.all.append(Naive(key, input_tokens, output_tokens, now, tokens_left=output_tokens))
        self.fill()

    def fill(self):
        for s in self.waiting():
            if len(self.slots()) < self.p.max_batch:
                s.phase = "prefilling"
                s.started_at = self.now
                s.prefill_left_s = (
                    self.p.prefill_base_s + self.p.prefill_s_per_token * s.input_tokens
                )

    def cancel(self, now, key):
        self.advance(now)
        (s,) = [s for s in self.all if s.key == key]
        if s.phase != "ended":
            s.output_tokens -= s.tokens_left
            s.tokens_left = 0.0
            s.phase = "ended"
            s.ended_at = now
            self.fill()

    def advance(self, now):
        while True:
            b = len(self.slots())
            tpot_s = self.p.tpot_s(b)
            dt = now - self.now
            for s in self.slots():
                left = s.prefill_left_s if s.phase == "prefilling" else s.tokens_left * tpot_s
                dt = min(dt, left)
            self.step(dt, b, tpot_s)
            changed = False
            for s in self.slots():
                if s.phase == "prefilling" and s.prefill_left_s <= 1e-12:
                    s.phase, s.first_token_at, changed = "decoding", self.now, True
                elif s.phase == "decoding" and s.tokens_left <= 1e-9:
                    s.phase, s.ended_at, s.finished, changed = "ended", self.now, True, True
            self.fill()
            if self.now >= now and not changed:
                return

    def step(self, dt, b, tpot_s):
        self.now += dt
        decoding = [s for s in self.slots() if s.phase == "decoding"]
        if b == 0:
            self.energy_j += self.p.idle_w * dt
            return
        rate = len(decoding) / tpot_s
        self.energy_j += (self.p.base_w + self.p.j_per_token * rate) * dt
        self.busy_s += dt
        if b == 1:
            awake = 1.0
        elif self.waiting():
            awake = 1.0 / b
        elif decoding:
            awake = 1.0 - self.p.tpot_s(b - 1) / tpot_s
        else:
            awake = 0.0
        for s in self.slots():
            own = self.p.j_per_token * dt / tpot_s if s.phase == "decoding" else 0.0
            s.gpu_j += own + self.p.base_w / b * dt
            s.marginal_j += own + (self.p.base_w - self.p.idle_w) * awake * dt
            if s.phase == "prefilling":
                s.prefill_left_s -= dt
            else:
                s.tokens_left -= dt / tpot_s

"""One model replica under continuous batching with chunked prefill, event by event.

A virtual clock counts iterations: each serves every decoding sequence one token. Without prompts
an iteration of b sequences with C cached tokens takes ``Physics.tpot_s(b, C)``, and the clock runs
on evenly from one event to the next, however many iterations lie between. A prompt waits for the
running iteration to end; then each iteration that carries pieces of prompts is an event of its
own, in which the clock gains exactly 1. An event costs O(log n) however many sequences run, and
what comes out is what a simulation of every iteration gives (``tests/lab/replay/naive_replica``),
but for a sequence's cached tokens: its mean over the run counts throughout.

Pieces fill ``max_batched_tokens`` - b tokens of an iteration, as prompts came or by slot numbers.
A request holds one of ``max_batch`` slots from the first piece of its prompt to its end; beyond
them requests wait in order. Its first token is there at the end of the iteration that reads the
last piece, the others with the iterations after it.

A server that keeps prompts (``prefix_cache_tokens``) spares who begins as one of them did so many
whole blocks, but the last, once that was read to its end: pieces begin after them. What was used
longest ago makes way (`router.core.prefixes`).

Power is ``base_w`` + ``j_per_token`` * output tokens/s while an iteration runs, ``prefill_w``
instead of ``base_w`` in the time that pieces take of it, else ``idle_w``. Per request:

* attributional = tokens, pieces at ``prefill_w``, and its share of the rest of its iterations at
  ``base_w``: 1 / b of the decoding sequences, where there is none 1 / pieces. The shares of all
  requests add up to the replica's energy while awake;
* short-run marginal = tokens, and what it keeps the replica awake longer above ``idle_w``: the
  time of its pieces, and of its other iterations

      all of it                          while it is alone,
      what b would be shorter by it      beside others,
      1 / b                              while others wait for a slot (how much it delays them).

  In a crowd that is an upper estimate: the delay that a request causes counts as prolonging the
  busy period, where later arrivals may absorb it.

A task profile is a processor-sharing queue with one unit of work per request and no prompts.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from router.core.burden import context_tokens
from router.core.prefixes import (
    CHUNK_TOKENS,
    NO_KEYS,
    Keys,
    build_caches,
    cached_tokens,
    keep,
    matched,
)
from router.lab.replay.physics import Physics
from router.model import Profile

# Rounding of the clock between events: nearer to a whole iteration it is at its end.
CLOCK_ROUNDING = 1e-6


class Tokens(NamedTuple):
    """``made`` tokens of a request exist at ``at``; 1 is the first token. Never the last.
    ``cached_tokens``: of its prompt, not read.
    """

    key: Hashable
    at: float
    made: int
    cached_tokens: float = 0.0


class Ended(NamedTuple):
    """A request left at ``at``. ``finished`` False: cancelled with ``output_tokens`` made.

    ``started_at`` and ``first_token_at`` are NaN where never reached. Energies are GPU and host;
    ``prompt_energy_j``: the part of ``energy_j`` that reading the prompt took. ``batch``: requests
    in a slot just before the end, itself included. ``cached_tokens``: of the prompt, not read.
    """

    key: Hashable
    at: float
    finished: bool
    admitted_at: float
    started_at: float
    first_token_at: float
    input_tokens: float
    output_tokens: float
    energy_j: float
    prompt_energy_j: float
    marginal_energy_j: float
    batch: int
    cached_tokens: float = 0.0


Event = Tokens | Ended


@dataclass(slots=True, eq=False)
class _Sequence:
    """``chain``: keys of the prompt's blocks; ``cached``: tokens of it that were not read.
    ``read``: tokens of the prompt that are cached; ``piece_s``: time of its pieces, and
    ``read_s`` with its share of iterations that nobody decoded in; ``read_alone_s``: of those, what
    nobody else would have needed.
    """

    key: Hashable
    input_tokens: float
    output_tokens: float
    stream_every: int
    admitted_at: float
    chain: Keys
    cached: float = 0.0
    slot: int = -1
    read: float = 0.0
    piece_s: float = 0.0
    read_s: float = 0.0
    read_alone_s: float = 0.0
    started_at: float = math.nan
    first_token_at: float = math.nan
    clock_start: float = math.nan
    share_start_s: float = 0.0
    awake_start_s: float = 0.0
    beside_start: float = 0.0
    gone: bool = False


class Replica:
    """One replica, from ``start`` (seconds, any epoch). Time only moves forward."""

    def __init__(self, profile: Profile, start: float, block_tokens: float = CHUNK_TOKENS) -> None:
        """``block_tokens``: in a block of the chains of `admit`."""
        self.physics = Physics.of(profile)
        self._block_tokens = block_tokens
        self._kept = build_caches([self.physics.prefix_blocks(block_tokens)])
        self.now = start
        self.busy_s = 0.0
        self.idle_s = 0.0
        self.prompt_s = 0.0
        self.tokens = 0.0
        self.iterations = 0.0
        # Of prompts, what was read; of that, what the running iteration reads.
        self.read_tokens = 0.0
        self._piece_tokens = 0.0
        self.running = 0
        self._decoding = 0
        self._cached = 0.0
        self._clock = 0.0
        self._share_s = 0.0
        self._awake_s = 0.0
        self._beside = 0.0
        self._serial = 0
        self._by_key: dict[Hashable, _Sequence] = {}
        self._arriving: deque[tuple[float, _Sequence]] = deque()
        self._waiting: deque[_Sequence] = deque()
        self._queued = 0
        self._reading: list[_Sequence] = []
        self._read: list[_Sequence] = []
        self._iteration_ends = math.inf
        self._tick_s = self._decode_s = self.physics.tpot_s(0)
        # Least recently used first, of those that came free at once the lowest, as llama.cpp goes
        # through them; on a fresh server the highest.
        self._free_slots = deque(range(self.physics.max_batch - 1, -1, -1))
        self._freed_at = [-math.inf] * self.physics.max_batch
        self._deadlines: list[tuple[float, int, int, _Sequence]] = []
        self._events: list[Event] = []

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return self._queued

    @property
    def energy_j(self) -> float:
        """Energy since ``start``, idle draw included, J."""
        physics = self.physics
        awake_j = physics.base_w * self.busy_s + physics.j_per_token * self.tokens
        prompts_j = (physics.prefill_w - physics.base_w) * self.prompt_s
        return self.idle_energy_j + awake_j + prompts_j

    @property
    def idle_energy_j(self) -> float:
        """Energy drawn while no request held a slot, J: what releasing it would save."""
        return self.physics.idle_w * self.idle_s

    def admit(
        self,
        now: float,
        key: Hashable,
        input_tokens: float,
        output_tokens: float,
        stream_every: int = 0,
        chain: Keys = NO_KEYS,
    ) -> None:
        """Take a request. ``stream_every`` n > 0: a Tokens event at 1, n, 2n, ... tokens.
        ``chain``: keys of its prompt's blocks.

        Of a fraction of a token all is made. Raises ValueError for a key in flight, output_tokens
        < 1, input_tokens not finite >= 0.
        """
        if key in self._by_key:
            raise ValueError(f"request {key!r} is already in flight")
        if not (1 <= output_tokens < math.inf and 0 <= input_tokens < math.inf):
            got = f"{output_tokens} and {input_tokens}"
            raise ValueError(f"need output_tokens >= 1 and input_tokens >= 0, got {got}")
        self._run(now)
        work = 1.0 if self.physics.one_unit else float(math.ceil(output_tokens))
        sequence = _Sequence(key, input_tokens, work, stream_every, now, chain)
        self._by_key[key] = sequence
        self._arriving.append((now + self.physics.prefill_base_s, sequence))
        self._run(now)

    def cancel(self, now: float, key: Hashable) -> Ended | None:
        """Drop a request and free its slot; None when it already ended (see ``advance``).

        The pieces of its prompt that the running iteration carries are read to their end.
        """
        self._run(now)
        sequence = self._by_key.get(key)
        if sequence is None:
            return None
        if math.isnan(sequence.started_at):
            record = self._leave(sequence, 0.0, finished=False)
            self._arriving = deque(one for one in self._arriving if not one[1].gone)
            self._waiting = deque(one for one in self._waiting if not one.gone)
            self._queued = len(self._waiting)
            return record
        made = 0.0
        if not math.isnan(sequence.clock_start):
            first = 0.0 if self.physics.one_unit else 1.0
            made = first + self._clock - sequence.clock_start
        record = self._leave(sequence, made, finished=False)
        if math.isnan(sequence.clock_start):
            self._reading = [one for one in self._reading if one is not sequence]
        else:
            self._stop_decoding(sequence)
        self._release_slot(sequence)
        self._run(now)
        return record

    def advance(self, now: float) -> list[Event]:
        """Move to ``now``; what happened since the last call, in order of time."""
        self._run(now)
        events, self._events = self._events, []
        return events

    def settle(self, now: float) -> None:
        """Bring every integral up to ``now``; events stay for the next ``advance``."""
        self._run(now)

    def next_event_at(self) -> float:
        """When the next event may be due if nothing is admitted or cancelled; inf when idle."""
        if self._events:
            return self.now
        return self._next()[0]

    def _next(self) -> tuple[float, int]:
        """When what comes next is due, and whether it is an arrival (0), the end of an iteration
        with prompts (1), a deadline (2) or the start of such an iteration (3).
        """
        at, what = math.inf, 0
        if self._arriving:
            at = self._arriving[0][0]
        if self._iteration_ends < math.inf:
            return (self._iteration_ends, 1) if self._iteration_ends <= at else (at, what)
        while self._deadlines and self._deadlines[0][3].gone:
            heapq.heappop(self._deadlines)
        boundary = math.inf
        if self._has_prompts():
            boundary = math.ceil(self._clock - CLOCK_ROUNDING) if self._decoding else self._clock
        key = self._deadlines[0][0] if self._deadlines else math.inf
        clock, mine = (key, 2) if key <= boundary else (boundary, 3)
        if clock < math.inf:
            due = self.now + max(0.0, clock - self._clock) * self._tick_s
            if due <= at:
                return due, mine
        return at, what

    def _has_prompts(self) -> bool:
        if self._reading:
            return True
        return bool(self._queued) and self.running < self.physics.max_batch

    def _run(self, now: float) -> None:
        if now < self.now:
            raise ValueError(f"time went back: {now} < {self.now}")
        while True:
            due, what = self._next()
            if due > now:
                break
            self._accrue(due)
            if what == 0:
                self._waiting.append(self._arriving.popleft()[1])
                self._queued += 1
                if self.physics.one_unit:
                    self._fill()
            elif what == 1:
                self._end_iteration()
            elif what == 2:
                self._reach(heapq.heappop(self._deadlines))
            else:
                self._clock = float(round(self._clock))
                self._fill()
                self._begin_iteration()
        self._accrue(now)

    def _accrue(self, until: float) -> None:
        """Add [self.now, until] to every integral; nothing changes inside it."""
        elapsed_s = until - self.now
        if elapsed_s <= 0.0:
            return
        self.now = until
        batch = self.running
        if batch == 0 and self._iteration_ends == math.inf:
            self.idle_s += elapsed_s
            return
        gained = elapsed_s / self._tick_s
        self._clock += gained
        self.tokens += gained * self._decoding
        self.iterations += gained
        self.read_tokens += gained * self._piece_tokens
        self.busy_s += elapsed_s
        self.prompt_s += gained * (self._tick_s - self._decode_s)
        if not self._decoding:
            return
        decode_s = gained * self._decode_s
        self._share_s += decode_s / self._decoding
        if batch == 1:
            self._awake_s += decode_s
        elif self._queued and batch == self.physics.max_batch:
            self._awake_s += decode_s / self._decoding
        else:
            self._beside += gained

    def _fill(self) -> None:
        """Give free slots to those who wait."""
        while self._queued and self.running < self.physics.max_batch:
            sequence = self._waiting.popleft()
            self._queued -= 1
            self.running += 1
            sequence.slot = self._free_slots.popleft()
            sequence.started_at = self.now
            sequence.read = sequence.cached = self._cached_tokens(sequence)
            if self.physics.one_unit:
                self._begin_decoding(sequence)
            elif self.physics.by_slot:
                insort(self._reading, sequence, key=lambda one: one.slot)
            else:
                self._reading.append(sequence)

    def _cached_tokens(self, sequence: _Sequence) -> float:
        """Of its prompt, what need not be read."""
        if not len(sequence.chain) or self.physics.one_unit:
            return 0.0
        blocks = matched(*self._kept, 0, sequence.chain, 0, len(sequence.chain))
        tokens: float = cached_tokens(
            blocks, self._block_tokens, sequence.input_tokens, self.physics.prefix_block
        )
        return tokens

    def _begin_iteration(self) -> None:
        """An iteration that reads prompts, as far as it has room for them."""
        physics = self.physics
        room = physics.max_batched_tokens - self._decoding
        pieces_s, pieces = 0.0, 0
        self._read = []
        for sequence in self._reading:
            if room <= 0.0:
                break
            size = min(room, sequence.input_tokens - sequence.read)
            piece_s = physics.piece_s(size, sequence.read)
            sequence.read += size
            sequence.piece_s += piece_s
            sequence.read_s += piece_s
            sequence.read_alone_s += piece_s
            room -= size
            pieces_s += piece_s
            pieces += 1
            if sequence.read >= sequence.input_tokens:
                self._read.append(sequence)
        if self._decoding == 0:
            for sequence in self._reading[:pieces]:
                sequence.read_s += self._decode_s / pieces
                sequence.read_alone_s += self._decode_s if pieces == 1 else 0.0
        self._piece_tokens = physics.max_batched_tokens - self._decoding - room
        self._tick_s = self._decode_s + pieces_s
        self._iteration_ends = self.now + self._tick_s

    def _end_iteration(self) -> None:
        self._iteration_ends = math.inf
        self._piece_tokens = 0.0
        self._clock = float(round(self._clock))
        for sequence in self._read:
            if sequence.gone:
                continue
            self._reading = [one for one in self._reading if one is not sequence]
            keep(*self._kept, 0, sequence.chain, 0, len(sequence.chain), 1.0)
            self.tokens += 1.0
            self._begin_decoding(sequence)
        self._read = []
        self._retick()
        self._start_over()

    def _begin_decoding(self, sequence: _Sequence) -> None:
        self._decoding += 1
        self._cached += context_tokens(sequence.input_tokens, sequence.output_tokens)
        sequence.clock_start = self._clock
        sequence.share_start_s = self._share_s
        sequence.awake_start_s = self._awake_s
        sequence.beside_start = self._beside
        if not self.physics.one_unit:
            sequence.first_token_at = self.now
            if sequence.output_tokens > 1:
                self._events.append(Tokens(sequence.key, self.now, 1, sequence.cached))
        every = sequence.stream_every
        self._push_deadline(sequence, max(every, 2) if every else 0)
        self._retick()

    def _push_deadline(self, sequence: _Sequence, count: int) -> None:
        """The next time at which ``sequence`` has news: ``count`` tokens, or its end."""
        last = not 0 < count < sequence.output_tokens
        tokens = sequence.output_tokens if last else count
        first = 0.0 if self.physics.one_unit else 1.0
        self._serial += 1
        due = sequence.clock_start + tokens - first
        heapq.heappush(self._deadlines, (due, self._serial, 0 if last else count, sequence))

    def _reach(self, entry: tuple[float, int, int, _Sequence]) -> None:
        """The clock stands at a deadline: more tokens, or the end."""
        due, _, count, sequence = entry
        self._clock = max(self._clock, due)
        if count:
            self._events.append(Tokens(sequence.key, self.now, count, sequence.cached))
            every = sequence.stream_every
            self._push_deadline(sequence, count - count % every + every)
            return
        if self.physics.one_unit:
            sequence.first_token_at = self.now
        self._events.append(self._leave(sequence, sequence.output_tokens, finished=True))
        self._stop_decoding(sequence)
        self._release_slot(sequence)

    def _stop_decoding(self, sequence: _Sequence) -> None:
        self._decoding -= 1
        self._cached -= context_tokens(sequence.input_tokens, sequence.output_tokens)
        self._retick()

    def _release_slot(self, sequence: _Sequence) -> None:
        self.running -= 1
        free, at = self._free_slots, len(self._free_slots)
        while at and free[at - 1] > sequence.slot and self._freed_at[free[at - 1]] == self.now:
            at -= 1
        free.insert(at, sequence.slot)
        self._freed_at[sequence.slot] = self.now
        if self.physics.one_unit:
            self._fill()
        self._start_over()

    def _retick(self) -> None:
        """An iteration without prompts takes another time from now on."""
        if self._iteration_ends == math.inf:
            if not self._decoding:
                self._cached = 0.0
            self._tick_s = self._decode_s = self.physics.tpot_s(self._decoding, self._cached)

    def _start_over(self) -> None:
        """The clock only matters between sequences that overlap: from 0 it is exact."""
        if not self.running and self._iteration_ends == math.inf:
            self._clock = 0.0
            self._deadlines.clear()

    def _leave(self, sequence: _Sequence, made: float, *, finished: bool) -> Ended:
        sequence.gone = True
        del self._by_key[sequence.key]
        physics = self.physics
        share_s = awake_s = 0.0
        if not math.isnan(sequence.clock_start):
            context = context_tokens(sequence.input_tokens, sequence.output_tokens)
            slower_s = physics.tpot_s_per_sequence + physics.tpot_s_per_cached_token * context
            share_s = self._share_s - sequence.share_start_s
            awake_s = self._awake_s - sequence.awake_start_s
            awake_s += (self._beside - sequence.beside_start) * slower_s
        own_j = physics.j_per_token * made
        pieces_j = (physics.prefill_w - physics.base_w) * sequence.piece_s
        prompt_j = physics.base_w * sequence.read_s + pieces_j
        awake_w = physics.base_w - physics.idle_w
        return Ended(
            sequence.key, self.now, finished, sequence.admitted_at, sequence.started_at,
            sequence.first_token_at, sequence.input_tokens, made,
            own_j + physics.base_w * share_s + prompt_j,
            prompt_j,
            own_j + awake_w * (awake_s + sequence.read_alone_s) + pieces_j,
            self.running,
            sequence.cached,
        )  # fmt: skip

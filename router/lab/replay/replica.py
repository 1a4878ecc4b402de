"""One model replica under continuous batching, as an exact processor-sharing queue.

A virtual clock counts the tokens that every decoding sequence has gained; it advances at
1/TPOT(b) tokens per second while b sequences hold a slot. A request is done when the clock has
advanced by its output tokens, so an event costs O(log n) however many sequences run. At most
``max_batch`` sequences hold a slot, the rest wait in order of arrival.

A sequence holds its slot from the start of its prefill, and counts in b from then on (chunked
prefill shares the iterations of the others); prefill takes a fixed time of its own. The first
token is due at the end of the prefill; later ones whenever the clock passes a whole token; the
last one when the clock has passed all of them, so that end-to-end = TTFT + n_out * TPOT(b).

Power is ``base_w + w_per_token_s * d / TPOT(b)`` while b >= 1 with d of them decoding, else
``idle_w``. Per request, GPU only (``energy_j`` adds ``host_fraction``):

* attributional = ``w_per_token_s * tokens`` + integral of ``base_w / b`` over its time in a slot:
  the shares of all requests sum to the replica's energy while awake;
* short-run marginal = ``w_per_token_s * tokens`` + ``(base_w - idle_w)`` * the time by which it
  keeps the replica awake longer: the integral over its time in a slot of

      1                       while it is alone,
      1 - TPOT(b-1)/TPOT(b)   while others decode (how much it slows them down),
      1 / b                   while others wait for a slot (how much it delays them),
      0                       while it prefills beside others that all prefill too.

  Power being affine in the token rate, this is total energy with it less total energy without
  it, exact while two sequences overlap. In a crowd it is an upper estimate: it takes the delay
  that a request causes as prolonging the busy period, where later arrivals may absorb it.

A task profile is the same queue with one unit of work per request, TPOT(b) = ``service_ms`` +
``service_ms_per_in_flight`` * (b - 1), no power of its own and ``energy_j`` per unit of work.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from router.model import Profile, TaskProfile


class Physics(NamedTuple):
    """What the queue needs of a profile, in SI units. ``one_unit``: work is not in tokens."""

    idle_w: float
    base_w: float
    j_per_token: float
    tpot_base_s: float
    tpot_s_per_sequence: float
    prefill_base_s: float
    prefill_s_per_token: float
    max_batch: int
    host_fraction: float
    one_unit: bool

    @classmethod
    def of(cls, profile: Profile) -> Physics:
        """The physics of a token or a task profile."""
        if isinstance(profile, TaskProfile):
            slope_s = profile.service_ms_per_in_flight / 1e3
            base_s = profile.service_ms / 1e3 - slope_s
            return cls(
                0.0, 0.0, profile.energy_j, base_s, slope_s, 0.0, 0.0,
                profile.max_batch, profile.host_fraction, True,
            )  # fmt: skip
        return cls(
            profile.idle_w, profile.base_w, profile.w_per_token_s,
            profile.tpot_base_ms / 1e3, profile.tpot_ms_per_sequence / 1e3,
            profile.prefill_base_ms / 1e3, profile.prefill_ms_per_token / 1e3,
            profile.max_batch, profile.host_fraction, False,
        )  # fmt: skip

    def tpot_s(self, batch: int) -> float:
        """Seconds per output token of every sequence while ``batch`` hold a slot."""
        return self.tpot_base_s + self.tpot_s_per_sequence * batch


class Tokens(NamedTuple):
    """``made`` tokens of a request exist at ``at``; 1 is the first token. Never the last."""

    key: Hashable
    at: float
    made: int


class Ended(NamedTuple):
    """A request left at ``at``. ``finished`` False: cancelled with ``output_tokens`` made.

    ``started_at`` and ``first_token_at`` are NaN where never reached. ``energy_j`` and
    ``marginal_energy_j`` are GPU and host; ``gpu_*`` are GPU alone. ``batch``: sequences in a
    slot just before the end, itself included.
    """

    key: Hashable
    at: float
    finished: bool
    admitted_at: float
    started_at: float
    first_token_at: float
    input_tokens: float
    output_tokens: float
    gpu_energy_j: float
    gpu_marginal_energy_j: float
    energy_j: float
    marginal_energy_j: float
    batch: int


Event = Tokens | Ended


@dataclass(slots=True, eq=False)
class _Sequence:
    key: Hashable
    input_tokens: float
    output_tokens: float
    stream_every: int
    admitted_at: float
    started_at: float = math.nan
    first_token_at: float = math.nan
    clock_start: float = math.nan
    share_start_s: float = 0.0
    awake_start_s: float = 0.0
    gone: bool = False


class Replica:
    """One replica, from ``start`` (seconds, any epoch). Time only moves forward."""

    def __init__(self, profile: Profile, start: float) -> None:
        self.physics = Physics.of(profile)
        self.now = start
        self.busy_s = 0.0
        self.idle_s = 0.0
        self.tokens = 0.0
        self.running = 0
        self._decoding = 0
        self._clock = 0.0
        self._share_s = 0.0
        self._awake_s = 0.0
        self._serial = 0
        self._by_key: dict[Hashable, _Sequence] = {}
        self._waiting: deque[_Sequence] = deque()
        self._queued = 0
        self._prefills: list[tuple[float, int, _Sequence]] = []
        self._deadlines: list[tuple[float, int, int, _Sequence]] = []
        self._events: list[Event] = []

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return self._queued

    @property
    def gpu_energy_j(self) -> float:
        """GPU energy since ``start``, idle draw included, J."""
        awake_j = self.physics.base_w * self.busy_s + self.physics.j_per_token * self.tokens
        return self.gpu_idle_energy_j + awake_j

    @property
    def gpu_idle_energy_j(self) -> float:
        """GPU energy drawn while no request held a slot, J: what releasing it would save."""
        return self.physics.idle_w * self.idle_s

    def admit(
        self,
        now: float,
        key: Hashable,
        input_tokens: float,
        output_tokens: float,
        stream_every: int = 0,
    ) -> None:
        """Take a request. ``stream_every`` n > 0: a Tokens event at 1, n, 2n, ... tokens.

        Raises ValueError for a key in flight, output_tokens < 1, input_tokens not finite >= 0.
        """
        if key in self._by_key:
            raise ValueError(f"request {key!r} is already in flight")
        if not (1 <= output_tokens < math.inf and 0 <= input_tokens < math.inf):
            got = f"{output_tokens} and {input_tokens}"
            raise ValueError(f"need output_tokens >= 1 and input_tokens >= 0, got {got}")
        self._run(now)
        work = 1.0 if self.physics.one_unit else output_tokens
        sequence = _Sequence(key, input_tokens, work, stream_every, now)
        self._by_key[key] = sequence
        self._waiting.append(sequence)
        self._queued += 1
        self._fill()

    def cancel(self, now: float, key: Hashable) -> Ended | None:
        """Drop a request and free its slot; None when it already ended (see ``advance``)."""
        self._run(now)
        sequence = self._by_key.get(key)
        if sequence is None:
            return None
        if math.isnan(sequence.started_at):
            self._queued -= 1
            record = self._leave(sequence, 0.0, finished=False)
            while self._waiting and self._waiting[0].gone:
                self._waiting.popleft()
            return record
        decoding = not math.isnan(sequence.clock_start)
        made = self._clock - sequence.clock_start if decoding else 0.0
        record = self._leave(sequence, made, finished=False)
        self._decoding -= decoding
        self._release_slot()
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
        """When the next event is due if nothing is admitted or cancelled; inf when idle."""
        if self._events:
            return self.now
        return min(self._next_prefill(), self._next_deadline())

    def _next_prefill(self) -> float:
        heap = self._prefills
        while heap and heap[0][2].gone:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def _next_deadline(self) -> float:
        heap = self._deadlines
        while heap and heap[0][3].gone:
            heapq.heappop(heap)
        if not heap:
            return math.inf
        left = max(0.0, heap[0][0] - self._clock)
        return self.now + left * self.physics.tpot_s(self.running)

    def _run(self, now: float) -> None:
        if now < self.now:
            raise ValueError(f"time went back: {now} < {self.now}")
        while True:
            prefill, deadline = self._next_prefill(), self._next_deadline()
            if min(prefill, deadline) > now:
                break
            if prefill <= deadline:
                self._accrue(prefill)
                self._begin_decoding(heapq.heappop(self._prefills)[2])
            else:
                self._accrue(deadline)
                self._reach(heapq.heappop(self._deadlines))
        self._accrue(now)

    def _accrue(self, until: float) -> None:
        """Add [self.now, until] to every integral; nothing changes inside it."""
        elapsed_s = until - self.now
        if elapsed_s <= 0.0:
            return
        self.now = until
        batch = self.running
        if batch == 0:
            self.idle_s += elapsed_s
            return
        tpot_s = self.physics.tpot_s(batch)
        gained = elapsed_s / tpot_s
        self._clock += gained
        self.tokens += gained * self._decoding
        self.busy_s += elapsed_s
        self._share_s += elapsed_s / batch
        if batch == 1:
            self._awake_s += elapsed_s
        elif self._queued:
            self._awake_s += elapsed_s / batch
        elif self._decoding:
            self._awake_s += gained * self.physics.tpot_s_per_sequence

    def _fill(self) -> None:
        """Give free slots to those who wait."""
        while self._queued and self.running < self.physics.max_batch:
            sequence = self._waiting.popleft()
            if sequence.gone:
                continue
            self._queued -= 1
            self.running += 1
            sequence.started_at = self.now
            sequence.share_start_s = self._share_s
            sequence.awake_start_s = self._awake_s
            if self.physics.one_unit:
                self._begin_decoding(sequence)
                continue
            prefill_s = (
                self.physics.prefill_base_s
                + self.physics.prefill_s_per_token * sequence.input_tokens
            )
            self._serial += 1
            heapq.heappush(self._prefills, (self.now + prefill_s, self._serial, sequence))

    def _begin_decoding(self, sequence: _Sequence) -> None:
        self._decoding += 1
        sequence.clock_start = self._clock
        if not self.physics.one_unit:
            sequence.first_token_at = self.now
            self._events.append(Tokens(sequence.key, self.now, 1))
        every = sequence.stream_every
        self._push_deadline(sequence, max(every, 2) if every else 0)

    def _push_deadline(self, sequence: _Sequence, count: int) -> None:
        """The next time at which ``sequence`` has news: ``count`` tokens, or its end."""
        last = not 0 < count < sequence.output_tokens
        due = sequence.clock_start + (sequence.output_tokens if last else count)
        self._serial += 1
        entry = (due, self._serial, 0 if last else count, sequence)
        heapq.heappush(self._deadlines, entry)

    def _reach(self, entry: tuple[float, int, int, _Sequence]) -> None:
        """The clock stands at a deadline: more tokens, or the end."""
        due, _, count, sequence = entry
        self._clock = max(self._clock, due)
        if count:
            self._events.append(Tokens(sequence.key, self.now, count))
            every = sequence.stream_every
            self._push_deadline(sequence, count - count % every + every)
            return
        if self.physics.one_unit:
            sequence.first_token_at = self.now
        record = self._leave(sequence, sequence.output_tokens, finished=True)
        self._events.append(record)
        self._decoding -= 1
        self._release_slot()

    def _leave(self, sequence: _Sequence, made: float, *, finished: bool) -> Ended:
        sequence.gone = True
        del self._by_key[sequence.key]
        physics = self.physics
        share_s = awake_s = 0.0
        if not math.isnan(sequence.started_at):
            share_s = self._share_s - sequence.share_start_s
            awake_s = self._awake_s - sequence.awake_start_s
        own_j = physics.j_per_token * made
        gpu_j = own_j + physics.base_w * share_s
        marginal_j = own_j + (physics.base_w - physics.idle_w) * awake_s
        host = 1.0 + physics.host_fraction
        return Ended(
            sequence.key, self.now, finished, sequence.admitted_at, sequence.started_at,
            sequence.first_token_at, sequence.input_tokens, made, gpu_j, marginal_j,
            gpu_j * host, marginal_j * host, self.running,
        )  # fmt: skip

    def _release_slot(self) -> None:
        self.running -= 1
        self._fill()
        if self.running == 0:
            # The clock only matters between sequences that overlap: starting over keeps it exact.
            self._clock = 0.0
            self._prefills.clear()
            self._deadlines.clear()

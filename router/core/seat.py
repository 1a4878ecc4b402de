"""One endpoint as a process sees it: what runs there, whether it is well, how wrong the model is.

A seat outlives snapshots and reloads, so a lease always gives back to the right endpoint; it keeps
the live columns of every model there true (`router.core.board`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from router.config.settings import HealthSettings
from router.core import kernel as k
from router.core.burden import NO_BURDENS, Burdens
from router.core.energy import Crowd
from router.core.health import Cause, Health, State
from router.core.latency import RatioTracker, WaitTracker
from router.core.outlier import OutlierEjection
from router.model import UNBURDENED, Burden, Load
from router.units import MS_PER_S

# (name, version) of a model as an endpoint declares it.
ModelKey: TypeAlias = tuple[str, str]

# That others keep an endpoint awake is believed for so many readings of its load after it had a
# request of this gateway: a server that merely claims to be busy attracts nobody.
BELIEVED_FOR = 10

# An endpoint that looks slow gets no requests, and without requests it would look slow for ever.
# So when nothing was learned of it for QUIET_S, its profile is believed again: half of the excess
# is forgotten every HALF_LIFE_S, until a request goes there and tells. While it is slow indeed that
# is about one request a minute.
QUIET_S = 60.0
HALF_LIFE_S = 60.0
RELAX_EVERY_S = 1.0
_RELAX_KEEPS = 0.5 ** (RELAX_EVERY_S / HALF_LIFE_S)
# A prefill, and a queue, by which a wait's errors are compared with those of the prior, ms.
_USUAL_PREFILL_MS = 100.0


class LatencyErrors(NamedTuple):
    """How wrong the latency model is, at the policy's quantile: factors of what TTFT takes of the
    request's own and of its queue, and of TPOT; and a delay of TTFT.
    """

    ttft: float
    queue: float
    tpot: float
    delay_ms: float


def prior_latency_errors(z: float) -> LatencyErrors:
    """Before any outcome, at the quantile whose standard normal deviate is ``z``."""
    delay_ms, ttft, queue = WaitTracker(z).errors()
    return LatencyErrors(ttft, queue, RatioTracker().factor(z), delay_ms)


def foreign_requests(load: Load, own: int, max_in_flight: int) -> float:
    """Requests of others on an endpoint, by what it says of itself: 0 .. ``max_in_flight``.

    What it counts includes the ``own`` of this gateway, which are known better here. A gauge that
    its engine lacks is NaN and counts nothing. Beyond the cap more is no fuller than full.
    """
    told = sum(count for count in (load.running, load.queued) if count > 0.0)
    return min(max(0.0, told - own), float(max_in_flight))


class Held(Protocol):
    """One request in flight: `router.core.lease` in earnest."""

    run_s: float


class Cell(NamedTuple):
    """A column of a model's live columns that belongs to a seat."""

    live: NDArray[np.float64]
    row: int
    outlier: OutlierEjection


class Seat:
    """Live state of one endpoint: requests in flight, health, latency error, turns.

    ``signs``: raised by every sign of life that its requests see. ``leases``: those in flight,
    oldest first. ``outliers``: by model, as the endpoint declares it.
    """

    __slots__ = (
        "_backlog_ends_at", "_burdens", "_caps", "_cells", "_latency_errors", "_others",
        "_peer_cap", "_prior", "_prompts_ms", "_quiet_since", "_shown", "_unused", "_usual",
        "_z", "health", "in_flight", "leases", "name", "outliers", "peak", "peers", "signs",
        "tpot_ratio", "turns", "wait",
    )  # fmt: skip

    def __init__(self, name: str, health: HealthSettings) -> None:
        self.name = name
        self.health = Health(health)
        self.outliers: dict[ModelKey, OutlierEjection] = {}
        self.leases: dict[Held, None] = {}
        self.signs = 0
        self.wait = WaitTracker()
        self.tpot_ratio = RatioTracker()
        self.in_flight = 0
        self.turns = 0
        self.peak = 0
        self.peers = 0
        self._peer_cap = math.inf
        self._shown: Callable[[int, float], None] | None = None
        self._others = 0.0
        self._unused = BELIEVED_FOR
        self._quiet_since = math.nan
        self._z = 0.0
        self._latency_errors = self._prior = LatencyErrors(1.0, 1.0, 1.0, 0.0)
        self._burdens = NO_BURDENS
        self._usual: Burdens | None = None
        self._backlog_ends_at = 0.0
        self._prompts_ms = 0.0
        self._caps: list[float] = []
        self._cells: list[Cell] = []

    @property
    def state(self) -> State:
        """Of the server; where that is healthy, of the best of its models."""
        if self.health.state is not State.HEALTHY or not self.outliers:
            return self.health.state
        states = {o.state if o.ready else State.EJECTED for o in self.outliers.values()}
        return next(s for s in (State.HEALTHY, State.PROBING, State.EJECTED) if s in states)

    @property
    def cause(self) -> Cause:
        """Why it takes no traffic, or less than others."""
        if self.health.cause is not Cause.NONE or self.state is State.HEALTHY:
            return self.health.cause
        ready = any(outlier.ready for outlier in self.outliers.values())
        return Cause.OUTLIER if ready else Cause.NOT_READY

    def serves_any_version(self, name: str) -> bool:
        """Whether it is in service for a model of this name."""
        return any(self.serves(model) for model in self.outliers if model[0] == name)

    def serves(self, model: ModelKey) -> bool:
        """Whether it is in service for a model; one that is busy for a moment is."""
        outlier = self.outliers[model]
        return self.health.is_there and outlier.ready and outlier.state is not State.EJECTED

    @property
    def batch(self) -> float:
        """Requests on the endpoint, as far as this gateway knows: of this process, of the other
        workers, and foreign ones."""
        return self.in_flight + self.peers + self._others

    @property
    def latency_errors(self) -> LatencyErrors:
        """The latency model's errors at the policy's quantile, as last published."""
        return self._latency_errors

    @property
    def longest_run_s(self) -> float:
        """The longest run that was predicted for a request in flight; 0 when there is none."""
        return max((lease.run_s for lease in self.leases), default=0.0)

    @property
    def burdens(self) -> Burdens:
        """What all requests on the endpoint add to it. Of those of others but the number is known:
        each counts as this gateway's own do there."""
        foreign = self.peers + self._others
        if foreign == 0 or self._usual is None:
            return self._burdens
        return self._burdens.with_usual(self._usual, foreign)

    def crowd(self, burden: Burden = UNBURDENED) -> Crowd:
        """Who is there; prompts without that of ``burden``, which is there."""
        burdens = self.burdens
        return Crowd(self.batch, burdens.less(burden).pace_ms, burdens.cached_tokens)

    def take(self, burden: Burden, now: float) -> None:
        """One more request, at ``now`` (s, on the clock by which requests are decided)."""
        self.in_flight += 1
        self.turns += 1
        self._unused = 0
        self.peak = max(self.peak, self.in_flight)
        self._burdens = self._burdens.plus(burden)
        alone = NO_BURDENS.plus(burden)
        self._usual = alone if self._usual is None else self._usual.towards(burden)
        # The other workers of this gateway send there what this one does.
        ours = (self.in_flight + self.peers) / self.in_flight
        # A clock that was set back: no more is left than the prompts of those that were there.
        ends_at = min(self._backlog_ends_at, now + ours * self._prompts_ms / MS_PER_S)
        self._backlog_ends_at = max(ends_at, now) + ours * burden.prompt_ms / MS_PER_S
        self._prompts_ms += burden.prompt_ms
        if burden.pace_cap_ms < math.inf:
            insort(self._caps, burden.pace_cap_ms)
        self.publish_load()

    def give_back(self, burden: Burden) -> None:
        """One request less; the counterpart of `take`, with the same ``burden``."""
        self.in_flight -= 1
        self._burdens = self._burdens.less(burden) if self.in_flight else NO_BURDENS
        self._prompts_ms = max(0.0, self._prompts_ms - burden.prompt_ms) if self.in_flight else 0.0
        if burden.pace_cap_ms < math.inf:
            del self._caps[bisect_left(self._caps, burden.pace_cap_ms)]
        self.publish_load()

    def set_others(self, others: float) -> None:
        """Requests that others have there, once a reading; 0 when nobody says."""
        self._others = others
        self._unused += 1
        self.publish_load()

    def set_peers(self, in_flight: int, pace_cap_ms: float = math.inf) -> None:
        """Requests that this gateway's other workers have there, counted as surely as its own, and
        the longest mean iteration that all of their budgets tolerate."""
        self.peers = in_flight
        self._peer_cap = pace_cap_ms
        self.publish_load()

    def show_to(self, shown: Callable[[int, float], None] | None) -> None:
        """Tell ``shown`` (in flight, pace cap) of this process at each change; None: nobody."""
        self._shown = shown
        self.publish_load()

    def publish_load(self) -> None:
        """Write batch, burdens, cap, turns and eligibility into every model's live columns."""
        cap = self._caps[0] if self._caps else math.inf
        if self._shown is not None:
            self._shown(self.in_flight, cap)
            cap = min(cap, self._peer_cap)
        admits = self.health.admits(self.in_flight, self.turns)
        # The other workers of this gateway are known as surely as its own requests are.
        own = self.in_flight + self.peers
        batch = own + self._others
        believed = self._others >= 1.0 and self._unused <= BELIEVED_FOR
        awake = 1.0 if own or believed else 0.0
        burdens = self.burdens
        backlog_most_ms = own * self._prompts_ms / self.in_flight if self.in_flight else 0.0
        foreign = (batch - own) / max(batch, 1.0)
        for live, row, outlier in self._cells:
            live[k.BATCH, row] = batch
            live[k.OWN, row] = own
            live[k.AWAKE, row] = awake
            live[k.PACE_CAP_MS, row] = cap
            live[k.PROMPTS_MS, row] = burdens.pace_ms
            live[k.PROMPTS_MS2, row] = burdens.pace_ms2
            live[k.CACHED_TOKENS, row] = burdens.cached_tokens
            live[k.BACKLOG_ENDS_S, row] = self._backlog_ends_at
            live[k.BACKLOG_MOST_MS, row] = backlog_most_ms
            live[k.FOREIGN, row] = foreign
            live[k.PER_PLACE, row] = 1.0 / (batch + 1.0)
            live[k.TURNS, row] = self.turns
            live[k.ELIGIBLE, row] = 1.0 if admits and outlier.admits else 0.0

    def publish_latency(self) -> None:
        """Something was learned: write the model's errors at the policy's quantile into every
        model's live columns."""
        self._quiet_since = math.nan
        self._publish_errors()

    def relax(self, now: float) -> None:
        """Once every RELAX_EVERY_S: forget some of what makes a quiet endpoint look slow."""
        if not self._quiet_since <= now:
            self._quiet_since = now
        if now - self._quiet_since < QUIET_S:
            return
        errors, prior = self._latency_errors, self._prior
        # With nobody there, or with a queue.
        alone_ms = errors.delay_ms + errors.ttft * _USUAL_PREFILL_MS
        slow_to_begin = (
            alone_ms > prior.ttft * _USUAL_PREFILL_MS
            or alone_ms + errors.queue * _USUAL_PREFILL_MS
            > (prior.ttft + prior.queue) * _USUAL_PREFILL_MS
        )
        slow_to_go_on = errors.tpot > prior.tpot
        if slow_to_begin:
            self.wait.relax(_RELAX_KEEPS)
        if slow_to_go_on:
            self.tpot_ratio.relax(_RELAX_KEEPS)
        if slow_to_begin or slow_to_go_on:
            self._publish_errors()

    def _publish_errors(self) -> None:
        delay_ms, ttft, queue = self.wait.errors()
        errors = LatencyErrors(ttft, queue, self.tpot_ratio.factor(self._z), delay_ms)
        self._latency_errors = errors
        for live, row, _ in self._cells:
            live[k.TTFT_FACTOR, row] = errors.ttft
            live[k.QUEUE_FACTOR, row] = errors.queue
            live[k.TPOT_FACTOR, row] = errors.tpot
            live[k.TTFT_DELAY, row] = errors.delay_ms

    def settle(self, cells: list[Cell], z: float) -> None:
        """Move to other columns (a reload); everything known is written there at once."""
        self._cells = cells
        self._z, self._prior = z, prior_latency_errors(z)
        self.wait.aim(z)
        self.publish_load()
        self.publish_latency()

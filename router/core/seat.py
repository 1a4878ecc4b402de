"""One endpoint as a process sees it: what runs there, whether it is well, how wrong the model is.

A seat outlives snapshots and reloads, so a lease always gives back to the right endpoint; it keeps
the live columns of every model there true (`router.core.board`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from router.config.settings import HealthSettings
from router.core import kernel_rows as k
from router.core.burden import NO_BURDENS, Burdens
from router.core.energy import Crowd
from router.core.gateway_load import NO_GATEWAY_LOAD, GatewayLoad, OwnLoad
from router.core.health import Cause, Health, State
from router.core.latency_record import LatencyRecord
from router.core.margins import Margins
from router.core.outlier import OutlierEjection
from router.core.terms import MOST_STRETCH
from router.core.twins import (
    LatencyErrors,
    Start,
)
from router.model import UNBURDENED, Burden, Load
from router.units import MS_PER_S

# (name, version) of a model as an endpoint declares it.
ModelKey: TypeAlias = tuple[str, str]

# That others keep an endpoint awake is believed for so many readings of its load after it had a
# request of this gateway: a server that merely claims to be busy attracts nobody.
BELIEVED_FOR = 10
# A cap of the pace that no iteration keeps: nobody may come.
NO_PLACE_MS = -1.0


def foreign_requests(load: Load, own: int, max_in_flight: int) -> float:
    """Requests of others on an endpoint, by what it says of itself: 0 .. ``max_in_flight``.

    What it counts includes the ``own`` of this gateway, which are known better here. A gauge that
    its engine lacks is NaN and counts nothing, so that what is left is the least that can be there:
    of a queue alone, any of which may be ``own``, what exceeds those. Beyond the cap more is no
    fuller than full.
    """
    told = sum(count for count in (load.running, load.queued) if count > 0.0)
    return min(max(0.0, told - own), float(max_in_flight))


class Held(Protocol):
    """One request in flight: `router.core.lease` in earnest."""

    run_s: float


class Cell(NamedTuple):
    """A column of a model's live columns that belongs to a seat.

    Written number by number at every request: through a memoryview that takes a third of the time
    that it takes through the array.
    """

    column: memoryview[float]
    outlier: OutlierEjection


def cell_of(live: NDArray[np.float64], row: int, outlier: OutlierEjection) -> Cell:
    """The column of candidate ``row``."""
    return Cell(cast("memoryview[float]", live[:, row].data), outlier)


class Seat:
    """Live state of one endpoint: requests in flight, health, latency error, turns.

    ``latency``: how wrong the model is, of which ``wait`` and ``tpot_ratio`` learn; ``margins``: of
    what callers are told of it. ``was_out``: it took no traffic at the last look. ``signs``: raised
    by every sign of life that its requests see.
    ``leases``: those in flight, oldest first. ``outliers``: by model, as the endpoint declares it.
    ``allotted``: requests that this process may have there; ``asks``: it is still chosen when these
    are used up, since more may be had.
    """

    __slots__ = (
        "_backlog_ends_at",
        "_backlog_shown",
        "_burdens",
        "_caps",
        "_cells",
        "_changed",
        "_gateways",
        "_others",
        "_paced_until",
        "_peer_cap",
        "_prompts_ms",
        "_sent_ms",
        "_sent_paced_ms",
        "_shown",
        "_unread_ms",
        "_unused",
        "_usual",
        "_watched",
        "_workers",
        "_workers_cap",
        "allotted",
        "asks",
        "health",
        "in_flight",
        "latency",
        "leases",
        "margins",
        "name",
        "outliers",
        "peak",
        "peers",
        "signs",
        "tpot_ratio",
        "turns",
        "wait",
        "was_out",
    )  # fmt: skip

    def __init__(self, name: str, health: HealthSettings) -> None:
        self.name = name
        self.health = Health(health)
        self.outliers: dict[ModelKey, OutlierEjection] = {}
        self.leases: dict[Held, None] = {}
        self.signs = 0
        self.latency = LatencyRecord()
        self.margins = Margins()
        self.wait, self.tpot_ratio = self.latency.wait, self.latency.tpot_ratio
        self.in_flight = 0
        self.turns = 0
        self.peak = 0
        self.peers = self._workers = 0
        self._peer_cap = self._workers_cap = math.inf
        self._gateways = NO_GATEWAY_LOAD
        self._changed: Callable[[Seat], None] | None = None
        self._watched: Callable[[Seat], None] | None = None
        self.allotted = math.inf
        self.asks = False
        self._sent_ms = self._sent_paced_ms = 0.0
        self._shown: Callable[[int, float], None] | None = None
        self._others = 0.0
        self._unused = BELIEVED_FOR
        self.was_out = False
        self._burdens = NO_BURDENS
        self._usual: Burdens | None = None
        self._backlog_ends_at = self._backlog_shown = self._paced_until = 0.0
        # Of the prompts of all that are there, and of those that are not known to be read.
        self._prompts_ms = self._unread_ms = 0.0
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
        """Requests on the endpoint, as far as this gateway knows: of this process, of its peers,
        which are the other workers and the other gateways, and foreign ones."""
        return self.in_flight + self.peers + self._others

    @property
    def latency_errors(self) -> LatencyErrors:
        """The latency model's errors at the policy's quantile, as last published."""
        return self.latency.errors

    @property
    def longest_run_s(self) -> float:
        """The longest run that was predicted for a request in flight; 0 when there is none."""
        return max((lease.run_s for lease in self.leases), default=0.0)

    @property
    def burdens(self) -> Burdens:
        """What all requests on the endpoint add to it. Of those of others but the number is known:
        each counts as this gateway's own do there."""
        burdens, told = self._burdens, self._gateways
        if told.told:
            burdens = burdens.with_usual(told.burdens, 1.0)
        untold = self._untold + self._others
        if untold == 0 or self._usual is None:
            return burdens
        return burdens.with_usual(self._usual, untold)

    @property
    def _untold(self) -> int:
        """Requests of peers of which but the number is known."""
        return max(0, self.peers - self._gateways.told)

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
        # Peers of which no more is known send there what this process does.
        ours = (self.in_flight + self._untold) / self.in_flight
        self._line_up(ours * burden.prompt_ms, ours * burden.paced_ms, ours, now)
        self._sent_ms += burden.prompt_ms
        self._sent_paced_ms += burden.paced_ms
        self._prompts_ms += burden.prompt_ms
        self._unread_ms += burden.prompt_ms
        if burden.pace_cap_ms < math.inf:
            insort(self._caps, burden.pace_cap_ms)
        self.publish_load()

    def _line_up(self, prompt_ms: float, paced_ms: float, ours: float, now: float) -> None:
        """Prompts join those that are still to be read. ``ours``: as many as this process has
        count for each of its own."""
        # Read as quickly as the hardware is, beside its profile.
        slowness = self.latency.slowness
        told = self._gateways
        # No more is left than the prompts that are not read, whatever the clock says.
        unread_ms = ours * self._unread_ms + told.unread_ms
        ends_at = min(self._backlog_ends_at, now + slowness * unread_ms / MS_PER_S)
        self._backlog_ends_at = max(ends_at, now) + slowness * prompt_ms / MS_PER_S
        # To the kernel what is left is a time by the profile, which it knows to be wrong.
        self._backlog_shown = now + (self._backlog_ends_at - now) / slowness
        prompts_ms = ours * self._prompts_ms + told.prompts_ms
        paced = min(self._paced_until, now + MOST_STRETCH * prompts_ms / MS_PER_S)
        self._paced_until = max(paced, now) + paced_ms / MS_PER_S

    def prompt_read(self, prompt_ms: float) -> None:
        """A request began to answer: its prompt, of ``prompt_ms``, is before nobody any more."""
        self._unread_ms = max(0.0, self._unread_ms - prompt_ms)
        self.publish_load()

    def give_back(self, burden: Burden, is_read: bool = False) -> None:
        """One request less; the counterpart of `take`, with the same ``burden``. ``is_read``:
        whether `prompt_read` was called for it."""
        self.in_flight -= 1
        self._burdens = self._burdens.less(burden) if self.in_flight else NO_BURDENS
        self._prompts_ms = max(0.0, self._prompts_ms - burden.prompt_ms) if self.in_flight else 0.0
        unread_ms = self._unread_ms - (0.0 if is_read else burden.prompt_ms)
        self._unread_ms = max(0.0, unread_ms) if self.in_flight else 0.0
        if burden.pace_cap_ms < math.inf:
            del self._caps[bisect_left(self._caps, burden.pace_cap_ms)]
        self.publish_load()

    @property
    def others(self) -> float:
        """Requests that others have there, as last told."""
        return self._others

    def set_others(self, others: float) -> None:
        """Requests that others have there, once a reading of its page; 0 when nobody says."""
        self._unused += 1
        self.correct_others(others)

    def correct_others(self, others: float) -> None:
        """As `set_others` between two such readings. Answers are many: were they counted, what
        others are said to keep awake would not be believed for as long as a few pages take."""
        self._others = others
        self.publish_load()

    def set_peers(self, in_flight: int, pace_cap_ms: float = math.inf) -> None:
        """Requests that this gateway's other workers have there, counted as surely as its own, and
        the longest mean iteration that all of their budgets tolerate."""
        self._workers, self._workers_cap = in_flight, pace_cap_ms
        self._count_peers()
        self.publish_load()

    def set_gateways(
        self, load: GatewayLoad, sent_ms: float = 0.0, paced_ms: float = 0.0, now: float = 0.0
    ) -> None:
        """What others have there, and prompts that they sent there since it was last told, as of
        `OwnLoad`. ``now``: as for `take`."""
        self._gateways = load
        self._count_peers()
        if sent_ms > 0.0 or paced_ms > 0.0:
            self._line_up(sent_ms, paced_ms, 1.0, now)
        self.publish_load()

    def allot(self, requests: float, asks: bool) -> None:
        """How many requests this process may have there, inf for any; see ``asks``."""
        self.allotted, self.asks = requests, asks
        self.publish_load()

    def own_load(self) -> OwnLoad:
        """What this process has there."""
        return OwnLoad(
            self.in_flight,
            self.turns,
            self._caps[0] if self._caps else math.inf,
            self._burdens,
            self._prompts_ms,
            self._unread_ms,
            self._sent_ms,
            self._sent_paced_ms,
        )

    def tell_changes(self, changed: Callable[[Seat], None] | None) -> None:
        """Tell ``changed`` whenever `own_load` may have; None: nobody."""
        self._changed = changed

    def watch(self, watched: Callable[[Seat], None] | None) -> None:
        """Tell ``watched`` whenever the number of requests there may have changed; None: nobody."""
        self._watched = watched

    def _count_peers(self) -> None:
        self.peers = self._workers + self._gateways.in_flight
        self._peer_cap = min(self._workers_cap, self._gateways.pace_cap_ms)

    def show_to(self, shown: Callable[[int, float], None] | None) -> None:
        """Tell ``shown`` (in flight, pace cap) of this process at each change; None: nobody."""
        self._shown = shown
        self.publish_load()

    def publish_load(self) -> None:
        """Write batch, burdens, cap, turns and eligibility into every model's live columns."""
        cap = self._caps[0] if self._caps else math.inf
        if self._shown is not None:
            self._shown(self.in_flight, cap)
        if self._changed is not None:
            self._changed(self)
        if self._watched is not None:
            self._watched(self)
        cap = min(cap, self._peer_cap)
        if self.in_flight >= self.allotted and not self.asks:
            # To the kernel it is full, and not out of service.
            cap = NO_PLACE_MS
        admits = self.health.admits(self.in_flight, self.turns)
        # Peers are known as surely as own requests are.
        own = self.in_flight + self.peers
        batch = own + self._others
        believed = self._others >= 1.0 and self._unused <= BELIEVED_FOR
        awake = 1.0 if own or believed else 0.0
        burdens = self.burdens
        backlog_most_ms = self._gateways.unread_ms
        if self.in_flight:
            ours = (self.in_flight + self._untold) / self.in_flight
            backlog_most_ms += ours * self._unread_ms
        foreign = (batch - own) / max(batch, 1.0)
        per_place = 1.0 / (batch + 1.0)
        for column, outlier in self._cells:
            column[k.BATCH] = batch
            column[k.OWN] = own
            column[k.AWAKE] = awake
            column[k.PACE_CAP_MS] = cap
            column[k.PROMPTS_MS] = burdens.pace_ms
            column[k.PROMPTS_MS2] = burdens.pace_ms2
            column[k.CACHED_TOKENS] = burdens.cached_tokens
            column[k.BACKLOG_ENDS_S] = self._backlog_shown
            column[k.BACKLOG_MOST_MS] = backlog_most_ms
            column[k.FOREIGN] = foreign
            column[k.PACED_UNTIL_S] = self._paced_until
            column[k.PER_PLACE] = per_place
            column[k.TURNS] = self.turns
            column[k.ELIGIBLE] = 1.0 if admits and outlier.admits else 0.0

    def publish_latency(self) -> None:
        """Something was learned: work the model's errors out anew, and write them."""
        self.latency.told()
        self.publish_errors()

    def relax(self, now: float) -> None:
        """Once every RELAX_EVERY_S: forget some of what makes a quiet endpoint look slow."""
        if self.latency.relax(now):
            self.publish_errors()

    def publish_errors(self) -> None:
        """Write the model's errors at the policy's quantile into every model's live columns."""
        errors = self.latency.errors
        for column, _ in self._cells:
            column[k.TTFT_FACTOR] = errors.ttft
            column[k.QUEUE_FACTOR] = errors.queue
            column[k.TPOT_FACTOR] = errors.tpot
            column[k.TTFT_DELAY] = errors.delay_ms

    def settle(
        self, cells: list[Cell], z: float, tpot_z: float, start: Start | None = None
    ) -> None:
        """Move to other columns (a reload); everything known is written there at once. ``start``:
        what its twins learned; None: what they last had."""
        self._cells = cells
        self.latency.aim(z, tpot_z, start)
        self.margins.aim(z, tpot_z)
        self.publish_load()
        self.publish_errors()

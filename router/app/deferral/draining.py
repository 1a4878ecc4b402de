"""One process at the queue: what it claims, and that each claim ends in one way or another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from router.config.deferral import DeferralSettings
from router.contract import Clock, Rng
from router.deferral.blobs import Blobs
from router.deferral.queue import DeferredQueue
from router.deferral.reading import ReadingLimits, read_batch, write_files
from router.deferral.values import (
    MOST_WAIT_S,
    BatchTerms,
    ClaimedBatch,
    ClaimedJob,
    JobKind,
    JobOutcome,
    Quota,
)
from router.errors import CarbonRouterError, DeferralFullError, DeferralStoreError
from router.gateway.openai.deferred.jobs import TryLater

# How often it is looked whether there is something to do, where nobody says so.
_LOOK_S: Final = 0.5
# Parts of a lease between two signs of life.
_BEATS: Final = 5.0
_PURGE_S: Final = 60.0
# Bytes without a row may be of an upload that is under way, or of a commit just now.
_LEFT_OVER_S: Final = 86_400.0
# A store that cannot be used is asked again after so long.
_AGAIN_S: Final = 1.0
_TOLD_S: Final = 60.0
# Over which those that are tried again at one time are spread at most.
_SPREAD_S: Final = 60.0

_log = logging.getLogger(__name__)


class Runner(Protocol):
    """Asks the fleet: `router.gateway.openai.deferred.jobs.JobRunner`."""

    def at_once(self, terms: BatchTerms, model: str) -> str: ...

    async def run(self, job: ClaimedJob) -> JobOutcome | TryLater: ...


class JobsTold(Protocol):
    """Who is told of what became of jobs: `router.telemetry.deferral.DeferralMetrics`."""

    def ended(self, outcome: str, count: int = 1) -> None: ...

    def show(self, waiting: int, under_way: int) -> None: ...


class Allotter(Protocol):
    """Says what may begin: `router.app.deferral.planning.Planner`."""

    def allot(
        self, kinds: Sequence[JobKind], most: int, now: float
    ) -> list[tuple[JobKind, int]]: ...

    def begun(self, batch_id: str, model: str) -> None: ...

    def put_back(self, batch_id: str, model: str, wait_s: float) -> None: ...

    def told(self) -> list[tuple[JobKind, str]]: ...

    def share_among(self, workers: int) -> None: ...


class PassedTime(Protocol):
    """By which deadlines have passed, unix s: `router.app.deferral.kept_mark.KeptMark`."""

    def now(self, ticks: float, wall: float) -> float: ...


class Drain:
    """Run it for ever, and `stop` it."""

    def __init__(
        self,
        queue: DeferredQueue,
        blobs: Blobs,
        settings: DeferralSettings,
        most_line_bytes: int,
        clock: Clock,
        rng: Rng,
        told: JobsTold,
        passed: PassedTime,
    ) -> None:
        self._queue = queue
        self._blobs = blobs
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._told = told
        self._passed = passed
        quota = Quota(
            settings.tenant_max_bytes, settings.tenant_max_requests, settings.tenant_max_batches
        )
        self._limits = ReadingLimits(most_line_bytes, settings.max_lines, quota)
        self._came = asyncio.Event()
        self._stopping = False
        self._jobs: dict[asyncio.Task[None], ClaimedJob] = {}
        self._others: set[asyncio.Task[None]] = set()
        self._beaten_at = self._purged_at = self._told_at = float("-inf")

    def came(self) -> None:
        """There is something to do."""
        self._came.set()

    async def run(self, runner: Runner, allotter: Allotter) -> None:
        """For ever. Raises what is no error of the store."""
        # Of a run that failed nobody knows what it had claimed.
        await self._surely(self._queue.give_back)
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                self._came.clear()
                try:
                    await self._round(group, runner, allotter)
                except (DeferralFullError, DeferralStoreError) as error:
                    self._tell(error)
                    await asyncio.sleep(_AGAIN_S)
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._came.wait()
        # Whoever supervises this would begin it anew.
        await asyncio.Event().wait()

    async def stop(self, grace_s: float) -> None:
        """Claim nothing any more, let what is under way end, and let go of it after ``grace_s``."""
        self._stopping = True
        self._came.set()
        tasks = [*self._jobs, *self._others]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        for task in [*self._jobs, *self._others]:
            task.cancel()

    async def _round(self, group: asyncio.TaskGroup, runner: Runner, allotter: Allotter) -> None:
        ticks, now = self._clock.monotonic(), self._clock.now()
        passed = await asyncio.to_thread(self._passed.now, ticks, now)
        if ticks - self._beaten_at >= self._settings.lease_s / _BEATS:
            self._beaten_at = ticks
            await self._beat()
            allotter.share_among(await self._queue.workers())
        is_due = ticks - self._purged_at >= _PURGE_S
        if is_due and not any(task.get_name() == "purge" for task in self._others):
            self._purged_at = ticks
            self._start(group, "purge", self._purge(passed))
        await self._begin(group, "read", self._queue.claim_unread, self._read(runner))
        await self._begin(group, "write", lambda: self._queue.claim_ended(now), self._write)
        self._told.ended("expired", await self._queue.expire(passed))
        free = self._settings.max_concurrent - len(self._jobs)
        if free > 0:
            wanted = allotter.allot(await self._queue.waiting(), free, now)
            told = allotter.told()
            if told:
                await self._queue.note_why(told)
            if wanted:
                for job in await self._queue.claim(wanted, now):
                    allotter.begun(job.batch_id, job.model)
                    task = group.create_task(
                        self._do(runner, allotter, job), name="deferred request"
                    )
                    self._jobs[task] = job
                    task.add_done_callback(self._done)

    async def _begin(
        self,
        group: asyncio.TaskGroup,
        name: str,
        claim: Callable[[], Awaitable[ClaimedBatch | None]],
        work: Callable[[ClaimedBatch], Awaitable[None]],
    ) -> None:
        """One batch at a time, in each way."""
        if any(task.get_name() == name for task in self._others):
            return
        claimed = await claim()
        if claimed is not None:
            self._start(group, name, self._with(claimed, work))

    def _start(self, group: asyncio.TaskGroup, name: str, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = group.create_task(run(), name=name)
        self._others.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._jobs.pop(task, None)
        self._others.discard(task)
        self._came.set()

    async def _beat(self) -> None:
        taken = await self._queue.beat()
        if taken:
            _log.warning("took over deferred work of a process that is no more",
                         extra={"claims": taken})  # fmt: skip
            self._told.ended("taken_over", taken)
        counts = await self._queue.counts()
        self._told.show(counts["waiting"], counts["under_way"])
        if await self._queue.gone_files():
            self._purged_at = float("-inf")
        held = await self._queue.held(list(self._jobs.values()))
        for task, job in list(self._jobs.items()):
            if job.number not in held:
                # Its batch was cancelled, or somebody took it over: no answer to it counts.
                task.cancel()

    async def _with(
        self, claimed: ClaimedBatch, work: Callable[[ClaimedBatch], Awaitable[None]]
    ) -> None:
        try:
            await work(claimed)
        except (DeferralFullError, DeferralStoreError) as error:
            self._tell(error)
            await asyncio.sleep(_AGAIN_S)
            await self._surely(lambda: self._queue.release(claimed))

    def _read(self, runner: Runner) -> Callable[[ClaimedBatch], Awaitable[None]]:
        async def read(claimed: ClaimedBatch) -> None:
            terms = claimed.batch.terms
            await read_batch(
                self._queue, self._blobs, claimed, self._limits, self._clock.now(),
                lambda model: runner.at_once(terms, model),
            )  # fmt: skip

        return read

    async def _write(self, claimed: ClaimedBatch) -> None:
        keep_s, now = self._settings.keep_s, self._clock.now()
        if await write_files(self._queue, self._blobs, claimed, keep_s, now):
            _log.info("batch ended", extra={"batch": claimed.batch.id})

    async def _do(self, runner: Runner, allotter: Allotter, job: ClaimedJob) -> None:
        outcome = await runner.run(job)
        if isinstance(outcome, TryLater):
            wait_s = self._wait_s(outcome.after_s)
            later = outcome
            await self._surely(
                lambda: self._queue.put_back(job, self._clock.now() + wait_s, later.is_failure)
            )
            allotter.put_back(job.batch_id, job.model, wait_s)
            self._told.ended("put_back")
        else:
            # It was answered: until that is written down nothing else is worth more.
            ended = outcome
            if await self._surely(lambda: self._queue.finish(job, ended)):
                self._told.ended("answered" if ended.is_ok else "failed")

    def _wait_s(self, after_s: float) -> float:
        """Not all at once, and not much later than there is something for them: of a carbon budget
        the greenest hour may be the first of its day."""
        luck = self._rng.random()
        return min(min(after_s, MOST_WAIT_S) * (1.0 + luck), after_s + _SPREAD_S * luck)

    async def _surely(self, ask: Callable[[], Awaitable[object]]) -> object:
        """What ``ask`` returns, which is asked again for as long as the store cannot be used."""
        while True:
            try:
                return await ask()
            except (DeferralFullError, DeferralStoreError) as error:
                if self._stopping:
                    return None
                self._tell(error)
                await asyncio.sleep(_AGAIN_S)

    async def _purge(self, now: float) -> None:
        try:
            # First what a disk that is full needs no room for.
            for file_id in await self._queue.gone_files():
                await asyncio.to_thread(self._blobs.delete, file_id)
            gone = await self._queue.purge(now, self._settings.keep_s)
            for file_id in gone:
                await asyncio.to_thread(self._blobs.delete, file_id)
            await self._queue.forget_files(gone)
            # The folder's times are the machine's own.
            old = await asyncio.to_thread(self._blobs.left_over, _LEFT_OVER_S)
            known = await self._queue.known_files(old)
            for file_id in old:
                if file_id not in known:
                    await asyncio.to_thread(self._blobs.delete, file_id)
        except (DeferralFullError, DeferralStoreError) as error:
            self._tell(error)

    def _tell(self, error: CarbonRouterError) -> None:
        ticks = self._clock.monotonic()
        if isinstance(error, DeferralFullError):
            # What callers delete to make room is to make some.
            self._purged_at = float("-inf")
        if ticks - self._told_at >= _TOLD_S:
            self._told_at = ticks
            _log.error("deferred work: %s", error, extra={"notes": getattr(error, "__notes__", [])})

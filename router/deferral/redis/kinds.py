"""Kinds of jobs that wait: how many there are is asked each time, what stays as it is once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from router.deferral.redis import job_scripts
from router.deferral.redis.calls import Scripts
from router.deferral.redis.rows import pairs, terms_of
from router.deferral.values import BatchTerms, JobKind

_PIECE: Final = 500


class KnownKind(NamedTuple):
    """What of a `JobKind` and its `ClaimedJob` never changes; ``number``: of its batch."""

    number: int
    batch_id: str
    model: str
    owner: str
    terms: BatchTerms
    queued_at: float
    deadline: float
    body_bytes: float
    at_once: str
    why: str


class KnownKinds:
    """Of one process."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._known: dict[str, KnownKind] = {}

    async def waiting(self) -> list[JobKind]:
        """See `DeferredQueue.waiting`."""
        waits = await self._counted("waiting")
        runs = await self._counted("running")
        self._known = {
            name: kind for name, kind in self._known.items() if name in waits or name in runs
        }
        missing = [name for name in waits if name not in self._known]
        for start in range(0, len(missing), _PIECE):
            await self._learn(missing[start : start + _PIECE])
        found = [
            (kind.number, JobKind(
                kind.batch_id, kind.model, kind.owner, kind.queued_at, kind.deadline, jobs,
                runs.get(name, 0), kind.body_bytes, kind.at_once, kind.why,
            ))
            for name, jobs in waits.items()
            if (kind := self._known.get(name)) is not None
        ]  # fmt: skip
        return [kind for _, kind in sorted(found, key=lambda one: (one[0], one[1].model))]

    async def counts(self) -> dict[str, int]:
        """See `DeferredQueue.counts`."""
        waits = await self._counted("waiting")
        runs = await self._counted("running")
        return {"waiting": sum(waits.values()), "under_way": sum(runs.values())}

    async def known(self, batch_id: str, model: str) -> KnownKind | None:
        """Of one that a job was claimed of; None where it is gone by now."""
        name = f"{batch_id}:{model}"
        if name not in self._known:
            await self._learn([name])
        return self._known.get(name)

    async def _counted(self, key: str) -> dict[str, int]:
        told = await self._scripts.command("HGETALL", key)
        return {name.decode(): int(count) for name, count in pairs(told)}

    async def _learn(self, names: Sequence[str]) -> None:
        asked = [part for name in names for part in name.split(":", 1)]
        rows = await self._scripts.run(job_scripts.KINDS, *asked)
        for name, row in zip(names, rows, strict=True):
            if row[0] is not None and row[6] is not None:
                self._known[name] = _kind(name, row)


def _kind(name: str, row: Sequence[Any]) -> KnownKind:
    batch_id, model = name.split(":", 1)
    number, owner, terms, created, expires, size, jobs, at_once, why = row
    return KnownKind(
        int(number), batch_id, model, owner.decode(), terms_of(terms), float(created),
        float(expires), int(size) // max(1, int(jobs)), (at_once or b"").decode(),
        (why or b"").decode(),
    )  # fmt: skip

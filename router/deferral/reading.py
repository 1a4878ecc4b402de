"""Reads the file of a batch into jobs, some lines at a time; and writes its answers into files."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from router.deferral import input_lines
from router.deferral.blobs import Blobs, new_file_id, told_of
from router.deferral.output_lines import written
from router.deferral.queue import DeferredQueue
from router.deferral.values import (
    BadLine,
    ClaimedBatch,
    LineError,
    NewJob,
    Quota,
    StoredFile,
)
from router.errors import DeferralQuotaError, UnknownFileError

# Lines of one transaction.
_LINES: Final = 1000
# Bad ones that the batch itself tells; all are in its error file.
_MOST_TOLD: Final = 100
# Of one batch: each is planned on its own.
_MOST_MODELS: Final = 64


class ReadingLimits(NamedTuple):
    """``line_bytes``: of one line; ``lines``: of a file; ``quota``: of its owner."""

    line_bytes: int
    lines: int
    quota: Quota


async def read_batch(
    queue: DeferredQueue,
    blobs: Blobs,
    claimed: ClaimedBatch,
    limits: ReadingLimits,
    now: float,
    at_once: Callable[[str], str],
) -> None:
    """Put every line of its file into the queue; where another process has it by now, no more.
    ``at_once``: what is known now of running a model now, see `ClaimedJob.at_once`.

    Raises DeferralFullError, DeferralStoreError: it can be read again.
    """
    told: list[LineError] = []
    terms = claimed.batch.terms
    seen = 0
    models: set[str] = set()
    pieces = _pieces(blobs, terms.input_file_id, terms.endpoint, limits.line_bytes)
    try:
        while piece := await asyncio.to_thread(next, pieces, ()):
            seen += len(piece)
            if seen > limits.lines:
                text = f"the file has more than {limits.lines} requests: make several of it"
                told = [LineError("too_many_requests", text)]
                await queue.end_reading(claimed, now, told, True, {})
                return
            piece = _of_few_models(piece, models)
            jobs = [one for one in piece if isinstance(one, NewJob)]
            bad = [one for one in piece if isinstance(one, BadLine)]
            told += [one.error for one in bad[: _MOST_TOLD - len(told)]]
            if not await queue.add_lines(claimed, jobs, bad, limits.quota):
                return
    except UnknownFileError:
        told = [LineError("file_unknown", "the file is not there any more", None, "input_file_id")]
        await queue.end_reading(claimed, now, told, True, {})
        return
    except DeferralQuotaError as error:
        told = [LineError(error.reason, str(error))]
        await queue.end_reading(claimed, now, told, True, {})
        return
    if not seen:
        told = [LineError("empty_file", "the file has no line that asks anything")]
    known = {model: at_once(model) for model in models}
    await queue.end_reading(claimed, now, told, not seen, known)


def _of_few_models(
    piece: tuple[NewJob | BadLine, ...], models: set[str]
) -> tuple[NewJob | BadLine, ...]:
    """``piece``, in which lines of one model too many ask nothing; ``models``: those so far."""
    found: list[NewJob | BadLine] = []
    for one in piece:
        if isinstance(one, NewJob) and one.model not in models:
            if len(models) == _MOST_MODELS:
                text = f"line {one.line}: a batch is of {_MOST_MODELS} models at most"
                error = LineError("too_many_models", text, one.line, "body.model")
                found.append(BadLine(one.line, one.custom_id, error))
                continue
            models.add(one.model)
        found.append(one)
    return tuple(found)


def _pieces(
    blobs: Blobs, file_id: str, endpoint: str, most_bytes: int
) -> Iterator[tuple[NewJob | BadLine, ...]]:
    try:
        with blobs.open(file_id) as file:
            lines = input_lines.split(file, most_bytes)
            while together := tuple(itertools.islice(lines, _LINES)):
                yield tuple(input_lines.read(line, endpoint, most_bytes) for line in together)
    except FileNotFoundError:
        raise UnknownFileError(f"no file {file_id!r} is kept here") from None
    except OSError as error:
        # Of the disk, or of a process without descriptors: others' work goes on.
        raise told_of(error) from None


async def write_files(
    queue: DeferredQueue, blobs: Blobs, claimed: ClaimedBatch, keep_s: float, now: float
) -> bool:
    """Write what came of a batch, and end it. ``keep_s``: of its files, where it does not say.

    False where another process has it by now. Raises DeferralFullError, DeferralStoreError: it can
    be written again, and nothing is left of what was begun.
    """
    made: list[StoredFile] = []
    try:
        output = await _write(queue, blobs, claimed, True, keep_s, now)
        if output is not None:
            made.append(output)
        errors = await _write(queue, blobs, claimed, False, keep_s, now)
        if errors is not None:
            made.append(errors)
        done = await queue.complete(claimed, output, errors, now)
    except BaseException:
        # A commit that was not heard of may stand: only what nobody knows is taken away.
        known = await _known(queue, made)
        for file in made:
            if known is not None and file.id not in known:
                await asyncio.to_thread(blobs.delete, file.id)
        raise
    if not done:
        for file in made:
            await asyncio.to_thread(blobs.delete, file.id)
    return done


async def _known(queue: DeferredQueue, made: list[StoredFile]) -> set[str] | None:
    try:
        return await queue.known_files([file.id for file in made])
    except Exception:
        # They are found, and deleted, later.
        return None


async def _write(
    queue: DeferredQueue,
    blobs: Blobs,
    claimed: ClaimedBatch,
    is_ok: bool,
    keep_s: float,
    now: float,
) -> StoredFile | None:
    batch = claimed.batch
    lines = await queue.lines(claimed, is_ok, 0, _LINES)
    if not lines:
        return None
    file_id = new_file_id()
    # Opened here: of a thread that nobody waits for any more nobody would close it.
    with blobs.write(file_id) as writer:
        while lines:
            text = b"".join([written(batch.id, line) for line in lines])
            await asyncio.to_thread(writer.add, text)
            lines = await queue.lines(claimed, is_ok, lines[-1].line, _LINES)
        await asyncio.to_thread(writer.keep)
    kind = "output" if is_ok else "error"
    kept_s = keep_s if batch.terms.keep_s is None else batch.terms.keep_s
    return StoredFile(
        file_id, batch.owner, f"{batch.id}_{kind}.jsonl", "batch_output", writer.size_bytes, now,
        now + kept_s,
    )  # fmt: skip

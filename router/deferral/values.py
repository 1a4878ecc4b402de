"""Files, batches and jobs as values."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

# Of a line that no server was asked about, or had the last word on: as OpenAI names them, where it
# has a name.
EXPIRED: Final = "batch_expired"
CANCELLED: Final = "batch_cancelled"
# A job that is put back waits no longer before it is tried again, s; up to twice that by chance.
MOST_WAIT_S: Final = 3600.0


class BatchStatus(StrEnum):
    """As OpenAI's API has them. FAILED, COMPLETED, EXPIRED and CANCELLED are final."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    FAILED = "failed"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing of it changes any more."""
        return self in _FINAL


_FINAL: Final = frozenset(
    (BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)
)


class StoredFile(NamedTuple):
    """A file of ``owner``'s. ``created_at``: unix s; ``expires_at``: likewise."""

    id: str
    owner: str
    filename: str
    purpose: str
    size_bytes: int
    created_at: float
    expires_at: float


class Grant(msgspec.Struct, frozen=True):
    """What whoever asked for a batch might do then: its requests may do that, and no more.

    As of `router.identity.principal.Principal`; limits that are infinite are None. ``fields``: what
    it said in headers of its own that routing reads.
    """

    name: str
    tenant: str
    models: tuple[str, ...]
    residency: tuple[str, ...]
    origins: tuple[str, ...]
    requests_per_s: float | None
    tokens_per_min: float | None
    max_concurrent: float | None
    weight: float
    is_anybody: bool
    fields: tuple[tuple[str, str], ...] = ()


class BatchTerms(msgspec.Struct, frozen=True):
    """What is asked, and stays. ``endpoint``: the path that every line names; ``window``: in the
    caller's words; ``keep_s``: of its answers' files."""

    endpoint: str
    input_file_id: str
    window: str
    grant: Grant
    metadata: Mapping[str, str] | None = None
    keep_s: float | None = None


class LineError(msgspec.Struct, frozen=True):
    """What is wrong with a file, or with a line of it (from 1; None: all of it)."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Counts(NamedTuple):
    """Lines of a batch, by what became of them."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchSums(NamedTuple):
    """Over the answers that a batch has. ``gco2e``: grams, of the ``gco2e_answers`` whose grams are
    known; ``saved_g``: what waiting saved, of the ``saved_answers`` of which that is known, by the
    forecasts as they stood when each came."""

    input_tokens: int = 0
    output_tokens: int = 0
    gco2e: float = 0.0
    saved_g: float = 0.0
    gco2e_answers: int = 0
    saved_answers: int = 0


NO_SUMS: Final = BatchSums()


class Unanswered(NamedTuple):
    """Of the failed lines of a batch, those that nobody had the time, or leave, to answer."""

    expired: int = 0
    cancelled: int = 0


class Batch(NamedTuple):
    """One batch. ``times``: unix s, by the status that began then, beside ``created`` and
    ``expires``. ``output_file_id``, ``error_file_id``: "" where there is none (yet)."""

    id: str
    owner: str
    status: BatchStatus
    terms: BatchTerms
    created_at: float
    expires_at: float
    times: Mapping[str, float]
    counts: Counts
    sums: BatchSums
    errors: tuple[LineError, ...]
    output_file_id: str
    error_file_id: str
    unanswered: Unanswered = Unanswered()


class NewJob(NamedTuple):
    """A line that asks something. ``offset``, ``size_bytes``: where it lies in its file;
    ``body_bytes``: of its request."""

    line: int
    offset: int
    size_bytes: int
    custom_id: str
    model: str
    body_bytes: int = 0


class BadLine(NamedTuple):
    """A line that asks nothing that can be done. ``custom_id``: "" where it has none of its own."""

    line: int
    custom_id: str
    error: LineError


class ClaimedBatch(NamedTuple):
    """A batch that is read, or whose files are written, by one process alone: as long as ``fence``
    is the one in the store."""

    batch: Batch
    fence: int


class ClaimedJob(NamedTuple):
    """A job that one process does, as long as ``fence`` is the one in the store. ``tries``: how
    often servers have failed it; ``queued_at``, ``deadline``: unix s. ``at_once``: what was known
    when it came of running it then, as `end_reading` was told, "" for nothing."""

    number: int
    fence: int
    batch_id: str
    terms: BatchTerms
    line: int
    offset: int
    size_bytes: int
    custom_id: str
    model: str
    tries: int
    queued_at: float
    deadline: float
    at_once: str = ""


class JobOutcome(NamedTuple):
    """How a job ended. ``is_ok``: whether its line is one of the output file, else of the error
    file. ``document``: that line, but for its id and ``custom_id``, as JSON."""

    is_ok: bool
    document: bytes
    sums: BatchSums = NO_SUMS


class JobKind(NamedTuple):
    """Jobs that wait and are alike: of one batch and model. ``jobs`` may count some that are not
    tried again before a while; ``under_way``: of the same kind, with any process; ``body_bytes``:
    of a usual one; ``at_once``: see `ClaimedJob`; ``why``: it waits, as was told last."""

    batch_id: str
    model: str
    owner: str
    queued_at: float
    deadline: float
    jobs: int
    under_way: int
    body_bytes: float
    at_once: str = ""
    why: str = ""


class StoredLine(NamedTuple):
    """A line of a batch's files. ``document``: None where ``code`` says how it ended; "" else."""

    line: int
    custom_id: str
    is_ok: bool
    document: bytes | None
    code: str


class Quota(NamedTuple):
    """What one owner may have: bytes of files, jobs that wait, batches, ended ones among them."""

    max_bytes: int
    max_jobs: int
    max_batches: int = 100_000

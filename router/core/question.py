"""A request in the cost kernel's terms: looked up once, the same for every candidate."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from router.core import evaluation
from router.core import kernel_rows as k
from router.core.columns import ModelColumns, Snapshot
from router.core.layout import Candidates
from router.core.lengths import Expected
from router.errors import InvalidMetadataError
from router.model import Prefix, Request

ORIGIN_UNKNOWN = "origin_unknown"


class CachedOfPrompts(Protocol):
    """What the candidates of a model are expected to have cached of a prompt."""

    def expected(self, prefix: Prefix, input_tokens: float) -> NDArray[np.float64]:
        """Tokens at each of them, (n,)."""
        ...


class CachedOfAll(Protocol):
    """What they have cached of every prompt."""

    def of(self, candidates: Candidates) -> NDArray[np.float64] | None:
        """Tokens at each of them, (n,); None where it is 0 for all."""
        ...


class BoardView(Protocol):
    """What a decision reads that changes with every request: `router.core.board`, or what one saw
    of it (`router.core.seen`)."""

    @property
    def templates(self) -> CachedOfAll:
        """Of the words that servers put before every prompt."""
        ...

    def live(self, model: str, version: str) -> NDArray[np.float64]:
        """Live columns (k.LIVE_ROWS, n) of a model's candidates."""
        ...

    def prefixes(self, model: str, version: str) -> CachedOfPrompts | None:
        """None where no candidate keeps prompts."""
        ...


class Question(NamedTuple):
    """What is the same for every candidate. ``rtt_row``: of the caller's origin in the columns;
    ``network_j``: joules to carry the request; ``residency``: bits of where it may run;
    ``scalars``: its figures and own budgets in the order in which the kernels take them, the last
    of them the seconds until the hour ends, whose intensity is the first of the columns, and now;
    after them comes ``cached`` (n,): tokens of its prompt that each candidate is expected to have
    cached.
    """

    columns: ModelColumns
    rtt_row: int
    expected: Expected
    network_j: float
    residency: int
    flags: tuple[str, ...]
    scalars: tuple[float, ...]
    cached: NDArray[np.float64]


def question_of(
    request: Request,
    snapshot: Snapshot,
    board: BoardView,
    expected: Expected,
    now: float,
    network_j: float,
    monotonic: float | None = None,
) -> Question:
    """The request in the kernel's terms. ``now``: of the clock that dates intensities;
    ``monotonic``: of that on which requests depart, the same where it is None.

    Raises UnknownModelError, InvalidMetadataError.
    """
    layout = snapshot.layout
    columns = snapshot.columns.get((request.model, request.version))
    if columns is None or request.quality_floor or request.agreed_floor:
        found = layout.find_for(request)
        columns = snapshot.columns[found.model, found.version]
    rtt_row = columns.origin_rows.get(request.origin)
    flags = request.ignored
    if rtt_row is None:
        rtt_row = columns.origin_rows.get(layout.fleet.default_origin)
        if rtt_row is None:
            known = ", ".join(sorted(columns.origin_rows))
            raise InvalidMetadataError(
                f"x-origin {request.origin!r} has no RTT table and no default_origin is set; "
                f"known origins: {known}"
            )
        if request.origin:
            flags = (*flags, ORIGIN_UNKNOWN)
    residency = snapshot.residency
    if request.residency:
        residency &= layout.residency_mask(request.residency)
    if layout.tenants:
        residency &= layout.tenant_mask(request.tenant)
    input_tokens, output_tokens, output_tokens_quantile = expected
    ttft_ms, tpot_ms, e2e_ms, _ = request.budget
    cached = columns.uncached
    if request.prefix is not None:
        candidates = columns.candidates
        prefixes = board.prefixes(candidates.model, candidates.version)
        if prefixes is not None:
            cached = prefixes.expected(request.prefix, input_tokens)
    templates = board.templates.of(columns.candidates)
    if templates is not None:
        # The last token of a prompt is always read.
        cached = np.maximum(cached, np.minimum(templates, max(input_tokens - 1.0, 0.0)))
    return Question(
        columns,
        rtt_row,
        expected,
        network_j,
        residency,
        flags,
        (
            rtt_row,
            input_tokens,
            output_tokens,
            output_tokens_quantile,
            network_j,
            ttft_ms,
            tpot_ms,
            e2e_ms,
            residency,
            snapshot.hour_ends_at - now,
            now if monotonic is None else monotonic,
        ),
        cached,
    )


def of_every_variant(request: Request) -> Request:
    """``request``, of an alias without its floors; of a model, which has none, as it is."""
    return request._replace(quality_floor=0.0, agreed_floor=0.0)


def asked_anew(
    question: Question, request: Request, snapshot: Snapshot, board: BoardView, now: float
) -> Question:
    """The same but of another ``request``, such as one with another floor. Raises as
    `question_of`."""
    expected, network_j, monotonic = question.expected, question.network_j, question.scalars[-1]
    return question_of(request, snapshot, board, expected, now, network_j, monotonic)


def evaluate(
    question: Question, live: NDArray[np.float64], params: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Every term (n, k.EVALUATED) and the exclusion reason (n,) of every candidate."""
    n = live.shape[1]
    terms, reasons = np.empty((n, k.EVALUATED)), np.empty(n, np.int64)
    evaluation.evaluate(
        question.columns.table, live, question.columns.candidates.labels, params,
        *question.scalars, question.cached, terms, reasons,
    )  # fmt: skip
    return terms, reasons

"""A request in the cost kernel's terms: looked up once, the same for every candidate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core import kernel as k
from router.core.columns import ModelColumns, Snapshot
from router.core.lengths import Expected
from router.errors import InvalidMetadataError
from router.model import Request

ORIGIN_UNKNOWN = "origin_unknown"


class Question(NamedTuple):
    """What is the same for every candidate. ``rtt_row``: of the caller's origin in the columns;
    ``network_j``: joules to carry the request; ``residency``: bits of where it may run;
    ``scalars``: its figures and own budgets in the order in which the kernels take them, the last
    of them the seconds until the hour ends, whose intensity is the first of the columns, and now.
    """

    columns: ModelColumns
    rtt_row: int
    expected: Expected
    network_j: float
    residency: int
    flags: tuple[str, ...]
    scalars: tuple[float, ...]


def question_of(
    request: Request, snapshot: Snapshot, expected: Expected, now: float, network_j: float
) -> Question:
    """The request in the kernel's terms. Raises UnknownModelError, InvalidMetadataError."""
    layout = snapshot.layout
    columns = snapshot.columns.get((request.model, request.version))
    if columns is None:
        found = layout.find(request.model, request.version)
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
            now,
        ),
    )


def evaluate(
    question: Question, live: NDArray[np.float64], params: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Every term (n, kernel.EVALUATED) and the exclusion reason (n,) of every candidate."""
    n = live.shape[1]
    terms, reasons = np.empty((n, k.EVALUATED)), np.empty(n, np.int64)
    k.evaluate(
        question.columns.table, live, question.columns.candidates.labels, params,
        *question.scalars, terms, reasons,
    )  # fmt: skip
    return terms, reasons

"""Files and batches as OpenAI's API tells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from router.deferral.values import Batch, BatchStatus, BatchSums, StoredFile

# By status, when it began.
_TIMES: Final = {
    "in_progress_at": BatchStatus.IN_PROGRESS,
    "finalizing_at": BatchStatus.FINALIZING,
    "completed_at": BatchStatus.COMPLETED,
    "failed_at": BatchStatus.FAILED,
    "expired_at": BatchStatus.EXPIRED,
    "cancelling_at": BatchStatus.CANCELLING,
    "cancelled_at": BatchStatus.CANCELLED,
}


def file_document(file: StoredFile) -> dict[str, Any]:
    """One file."""
    return {
        "id": file.id, "object": "file", "bytes": file.size_bytes,
        "created_at": int(file.created_at), "expires_at": int(file.expires_at),
        "filename": file.filename, "purpose": file.purpose, "status": "processed",
        "status_details": None,
    }  # fmt: skip


def batch_document(batch: Batch) -> dict[str, Any]:
    """One batch. ``carbon`` is ours: sums over its answers, of those that said."""
    errors = [
        {"code": one.code, "message": one.message, "line": one.line, "param": one.param}
        for one in batch.errors
    ]
    told: dict[str, Any] = {
        "id": batch.id, "object": "batch", "endpoint": batch.terms.endpoint,
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": batch.terms.input_file_id, "completion_window": batch.terms.window,
        "status": str(batch.status), "output_file_id": batch.output_file_id or None,
        "error_file_id": batch.error_file_id or None, "created_at": int(batch.created_at),
        "expires_at": int(batch.expires_at),
    }  # fmt: skip
    for name, status in _TIMES.items():
        since = batch.times.get(str(status))
        told[name] = None if since is None else int(since)
    told["request_counts"] = batch.counts._asdict()
    told["metadata"] = None if batch.terms.metadata is None else dict(batch.terms.metadata)
    if batch.counts.completed:
        told["carbon"] = _carbon(batch.sums)
    return told


def _carbon(sums: BatchSums) -> dict[str, Any]:
    """What no answer said is left out, and never 0."""
    told: dict[str, Any] = {}
    if sums.gco2e_answers:
        told |= {"gco2e": float(f"{sums.gco2e:.6g}"), "gco2e_answers": sums.gco2e_answers}
    if sums.saved_answers:
        told |= {
            "saved_gco2e": float(f"{sums.saved_g:.6g}"), "saved_answers": sums.saved_answers,
            "saved_basis": "each answer's energy, at the intensity that was known for where it "
            "would have run when its batch came, less what it emitted",
        }  # fmt: skip
    return told | {"input_tokens": sums.input_tokens, "output_tokens": sums.output_tokens}


def list_document(data: Sequence[dict[str, Any]], most: int) -> dict[str, Any]:
    """A page of ``data``, of which there is one more than fits where there is another page."""
    page = list(data[:most])
    return {
        "object": "list", "data": page, "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None, "has_more": len(data) > most,
    }  # fmt: skip

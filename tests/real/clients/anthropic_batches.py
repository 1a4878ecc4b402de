"""Anthropic's SDK at message batches: ``anthropic_batches.py URL MODEL``."""

from __future__ import annotations

import sys
import time
from typing import Any

import anthropic
from outcome import tell
from sdk import failure

PATIENCE_S = 90.0


def request(custom_id: str, model: str) -> dict[str, Any]:
    """A short one."""
    messages = [{"role": "user", "content": "Name a colour."}]
    params = {"model": model, "max_tokens": 4, "messages": messages}
    return {"custom_id": custom_id, "params": params}


def batch(batches: Any, model: str) -> dict[str, Any]:
    """From its requests to their results, and until it is gone."""
    made = batches.create(
        requests=[request("a", model), request("b", model), request("c", "no-such-model")],
        # It has a day, and would wait for the wind.
        extra_headers={"x-deadline-s": "60"},
    )
    by = time.perf_counter() + PATIENCE_S
    first = made.processing_status
    while made.processing_status != "ended":
        if time.perf_counter() > by:
            raise TimeoutError(made.processing_status)
        time.sleep(0.1)
        made = batches.retrieve(made.id)
    results = {one.custom_id: one.to_dict() for one in batches.results(made.id)}
    listed = [one.id for one in batches.list(limit=1)]
    return {
        "first": first,
        "batch": made.to_dict(mode="json"),
        "results": results,
        "listed": listed,
        "deleted": batches.delete(made.id).type,
    }


def gone(batches: Any) -> dict[str, Any]:
    """What the SDK raises for a batch that is none."""
    try:
        batches.retrieve("msgbatch_none")
    except anthropic.AnthropicError as error:
        return failure(error)
    raise AssertionError("nothing was raised")


if __name__ == "__main__":
    url, model = sys.argv[1:]
    sdk = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
    found = batch(sdk.messages.batches, model)
    later = sdk.messages.batches.create(requests=[request("a", model)])  # type: ignore[list-item]
    tell(
        **found,
        cancelled=sdk.messages.batches.cancel(later.id).processing_status,
        gone=gone(sdk.messages.batches),
    )

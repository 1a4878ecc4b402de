"""OpenAI's SDK at files and batches: ``openai_batches.py URL MODEL``."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import openai
from outcome import tell
from sdk import failure

PATIENCE_S = 90.0
CHAT = "/v1/chat/completions"


def lines(model: str) -> bytes:
    """Two requests and what is none."""

    def one(custom_id: str, **changes: Any) -> bytes:
        body = {"model": model, "messages": [{"role": "user", "content": "Name a colour."}]}
        asked = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body | changes}
        return json.dumps(asked).encode() + b"\n"

    return one("a", max_tokens=4) + b"{broken\n" + one("b", max_tokens=4)


def batch(client: openai.OpenAI, model: str) -> dict[str, Any]:
    """From a file to its answers."""
    file = client.files.create(file=("in.jsonl", lines(model)), purpose="batch")
    made: Any = client.batches.create(
        input_file_id=file.id,
        endpoint=CHAT,
        completion_window="1m",  # type: ignore[arg-type]
        metadata={"run": "7"},
    )
    by = time.perf_counter() + PATIENCE_S
    while made.status not in ("completed", "failed", "expired", "cancelled"):
        if time.perf_counter() > by:
            raise TimeoutError(made.status)
        time.sleep(0.1)
        made = client.batches.retrieve(made.id)
    return {
        "file": file.to_dict(),
        "batch": made.to_dict(),
        "output": client.files.content(made.output_file_id).text,
        "errors": client.files.content(made.error_file_id).text,
        "listed": [one.id for one in client.batches.list(limit=1)],
        "files": [one.purpose for one in client.files.list(limit=2)],
        "deleted": client.files.delete(file.id).deleted,
    }


def cancelled(client: openai.OpenAI, model: str) -> str:
    """The status of a batch that is cancelled as soon as it is made."""
    file = client.files.create(file=("in.jsonl", lines(model)), purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    return client.batches.cancel(made.id).status


def background(client: openai.OpenAI, model: str) -> dict[str, Any]:
    """A response that is made in the background, polled as OpenAI's guide does."""
    made = client.responses.create(
        model=model, input="Name a colour.", max_output_tokens=4, background=True
    )
    first = made.status
    by = time.perf_counter() + PATIENCE_S
    while made.status in ("queued", "in_progress"):
        if time.perf_counter() > by:
            raise TimeoutError(made.status)
        time.sleep(0.1)
        made = client.responses.retrieve(made.id)
    later = client.responses.create(
        model=model, input="Name a colour.", background=True,
        background_options={"completion_window": "8h"},
    )  # fmt: skip
    return {
        "first": first,
        "status": made.status,
        "text": made.output_text,
        "id": made.id,
        "cancelled": client.responses.cancel(later.id).status,
    }


def flex(client: openai.OpenAI, model: str) -> list[str | None]:
    """The tier of answers that might wait, whole and streamed, and of one that did not say."""
    asked: Any = {"model": model, "messages": [{"role": "user", "content": "Name a colour."}]}
    asked |= {"max_tokens": 4}
    whole = client.chat.completions.create(**asked, service_tier="flex")
    stream = client.chat.completions.create(**asked, service_tier="flex", stream=True)
    tiers = {piece.service_tier for piece in stream}
    made = client.responses.create(
        model=model, input="Hi", max_output_tokens=4, service_tier="flex"
    )
    plain = client.chat.completions.create(**asked)
    return [whole.service_tier, *sorted(map(str, tiers)), made.service_tier, plain.service_tier]


def gone(client: openai.OpenAI) -> dict[str, Any]:
    """What the SDK raises for a file that is none."""
    try:
        client.files.retrieve("file-none")
    except openai.OpenAIError as error:
        return failure(error)
    raise AssertionError("nothing was raised")


if __name__ == "__main__":
    url, model = sys.argv[1:]
    sdk = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    tell(
        batch=batch(sdk, model),
        cancelled=cancelled(sdk, model),
        background=background(sdk, model),
        flex=flex(sdk, model),
        gone=gone(sdk),
    )

"""OpenAI's and Anthropic's SDKs with keys: ``keyed_sdks.py URL MODEL RIGHT WRONG``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import anthropic
import openai
from outcome import tell
from sdk import failure

MESSAGES: Any = [{"role": "user", "content": "Name a colour."}]


def outcome(call: Callable[[], Any]) -> dict[str, Any]:
    """What a call returned, or what the SDK's error says."""
    try:
        return {"value": call()}
    except Exception as error:
        return failure(error)


def chat(url: str, model: str, key: str, **headers: str) -> dict[str, Any]:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    return outcome(
        lambda: (
            client.chat.completions.create(
                model=model, messages=MESSAGES, max_tokens=4, extra_headers=headers
            )
            .choices[0]
            .finish_reason
        )
    )


def models(url: str, key: str) -> dict[str, Any]:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    return outcome(lambda: [model.id for model in client.models.list()])


def message(url: str, model: str, **credential: str) -> dict[str, Any]:
    client = anthropic.Anthropic(base_url=url, max_retries=0, **credential)
    return outcome(
        lambda: client.messages.create(model=model, messages=MESSAGES, max_tokens=4).stop_reason
    )


if __name__ == "__main__":
    url, model, right, wrong = sys.argv[1:]
    tell(
        chat=chat(url, model, right),
        chat_wrong=chat(url, model, wrong),
        chat_wider=chat(url, model, right, **{"x-tenant": "rival"}),
        models=models(url, right),
        models_wrong=models(url, wrong),
        message=message(url, model, api_key=right),
        message_by_token=message(url, model, auth_token=right),
        message_wrong=message(url, model, api_key=wrong),
    )

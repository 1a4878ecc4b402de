"""OpenAI's and Anthropic's SDKs over mTLS: ``tls_sdks.py URL MODEL CA_FILE CLIENT_FILE``."""

from __future__ import annotations

import ssl
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


def chat(url: str, model: str, context: ssl.SSLContext) -> dict[str, Any]:
    client = openai.OpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0,
        http_client=openai.DefaultHttpxClient(verify=context),
    )  # fmt: skip
    return outcome(
        lambda: (
            client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=4)
            .choices[0]
            .finish_reason
        )
    )


def message(url: str, model: str, context: ssl.SSLContext) -> dict[str, Any]:
    client = anthropic.Anthropic(
        base_url=url, api_key="none", max_retries=0,
        http_client=anthropic.DefaultHttpxClient(verify=context),
    )  # fmt: skip
    return outcome(
        lambda: client.messages.create(model=model, messages=MESSAGES, max_tokens=4).stop_reason
    )


if __name__ == "__main__":
    url, model, ca, mine = sys.argv[1:]
    known, nobody = (ssl.create_default_context(cafile=ca) for _ in range(2))
    known.load_cert_chain(mine)
    tell(
        chat=chat(url, model, known),
        message=message(url, model, known),
        chat_unknown=chat(url, model, nobody),
        chat_unbelieving=chat(url, model, ssl.create_default_context()),
    )

"""``scaling`` of the file: who is told how many replicas are wanted where, beside KEDA."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from router.config.fields import BaseUrl, Strict
from router.config.settings import CommandSettings, ScalingSettings, WebhookSettings
from router.config.tls import (
    BackendsSchema,
    CredentialsSchema,
    EndpointTlsSchema,
    endpoint_access,
)

AT: Final = "scaling.webhook"
# What endpoints get is not for whoever scales them.
_NO_DEFAULTS: Final = BackendsSchema()


def _word(text: str) -> str:
    if "\0" in text:
        raise ValueError("no argument can hold a NUL")
    return text


Word = Annotated[str, Field(max_length=4096), AfterValidator(_word)]


class WebhookSchema(Strict):
    """A URL to which hints are sent."""

    url: BaseUrl = Field(description="http or https, to which they are sent by POST, as JSON")
    timeout_ms: float = Field(default=5_000.0, ge=100, le=60_000, description="of one call, ms")
    max_tries: int = Field(default=3, ge=1, le=10, description="of one hint, later each time")
    tls: EndpointTlsSchema | None = Field(
        default=None, description="of https; left out: the host's own authorities"
    )
    credentials: CredentialsSchema | None = Field(
        default=None, description="the key that is sent along; left out: none"
    )


class ScalingCommandSchema(Strict):
    """A program that is run with hints on its standard input."""

    argv: list[Word] = Field(
        min_length=1,
        max_length=256,
        description="program, by its absolute path, and its arguments; no shell reads them",
    )
    timeout_s: float = Field(default=60.0, ge=1, le=900, description="then it is ended, s")


class ScalingSchema(Strict):
    """Hints how many replicas are wanted where: who gets them, and what they reckon with."""

    webhook: WebhookSchema | None = Field(
        default=None, description="where they are sent; left out: nowhere"
    )
    command: ScalingCommandSchema | None = Field(
        default=None, description="what is run with them; left out: nothing"
    )
    every_s: float = Field(
        default=60.0,
        ge=5,
        le=3600,
        description="between two hints where nothing has changed, s; what changes is told within 5",
    )
    wake_s: float = Field(
        default=180.0,
        ge=0,
        le=3600,
        description="that a replica takes until it serves, s: what is reckoned with until it was "
        "measured",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("give webhook or command, or wake_s for those whom server.scaler told")
        return self


def scaling_settings(schema: ScalingSchema | None, folder: Path) -> ScalingSettings | None:
    """None where nothing is said; ``folder``: of the configuration file."""
    if schema is None:
        return None
    webhook, command = schema.webhook, schema.command
    told = None
    if webhook is not None:
        access = endpoint_access(
            AT, is_https(webhook), webhook.tls, webhook.credentials, _NO_DEFAULTS, folder
        )
        told = WebhookSettings(
            webhook.url, webhook.timeout_ms / 1e3, webhook.max_tries, access.tls, access.credentials
        )
    run = CommandSettings(tuple(command.argv), command.timeout_s) if command is not None else None
    return ScalingSettings(told, run, schema.every_s, schema.wake_s)


def is_https(webhook: WebhookSchema) -> bool:
    """Whether it is sent over TLS."""
    return urlsplit(webhook.url).scheme == "https"

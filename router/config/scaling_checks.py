"""What ``scaling`` of the file means for the rest of it, and on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from router.config.exposure import is_loopback
from router.config.problems import Problem
from router.config.scaling import AT, ScalingSchema, WebhookSchema, is_https


def check_scaling(schema: ScalingSchema | None, is_asked: bool) -> list[Problem]:
    """Somebody is told, and can be. ``is_asked``: KEDA asks."""
    if schema is None:
        return []
    problems: list[Problem] = []
    if schema.webhook is None and schema.command is None and not is_asked:
        problems.append(("scaling", "nobody is told: give webhook, command or server.scaler"))
    if schema.webhook is not None:
        problems += _check_webhook(schema.webhook)
    if schema.command is not None:
        program = Path(schema.command.argv[0])
        if not program.is_absolute():
            problems.append(("scaling.command.argv", f"{program}: give its absolute path"))
        elif not (program.is_file() and os.access(program, os.X_OK)):
            problems.append(("scaling.command.argv", f"{program}: no program that can be run"))
    return problems


def _check_webhook(webhook: WebhookSchema) -> list[Problem]:
    if is_https(webhook):
        return []
    problems: list[Problem] = []
    if webhook.tls is not None:
        problems.append((f"{AT}.tls", "is for https: say so in url, or leave it out"))
    parts = urlsplit(webhook.url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    if webhook.credentials is not None and not is_loopback(f"{host}:{parts.port or 80}"):
        problems.append((f"{AT}.credentials", "would travel in plaintext: give an https url"))
    return problems

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest


def _called(fake: SimpleNamespace, name: str, *given: Any, **named: Any) -> Any:
    return getattr(fake, name)(*given, **named)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for what the commands call; each test sets what it needs."""
    fake = SimpleNamespace()
    for path in (
        "operator.check.check", "operator.check.check_store", "operator.check.explain",
        "app.process.serve", "operator.servers.server_findings",
    ):  # fmt: skip
        _, _, name = path.rpartition(".")
        monkeypatch.setattr(f"router.{path}", partial(_called, fake, name))
    return fake

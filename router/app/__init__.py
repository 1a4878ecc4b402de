"""Composition root: builds every object, lists every built-in, owns the only TaskGroup."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from router.app.inspect import check, explain

if TYPE_CHECKING:
    from router.app.surveying import GridSurvey

__all__ = ["check", "explain", "serve", "survey"]


def survey(zones: Sequence[str], config_path: Path | None, hours: int) -> list[GridSurvey]:
    """What every source says of ``zones``; see `router.app.surveying.survey`."""
    from router.app import surveying

    return surveying.survey(zones, config_path, hours)


def serve(config_path: Path, workers: int | None = None) -> int:
    """Run the gateway; see `router.app.process.serve`."""
    # gRPC is not needed to check or explain a configuration.
    from router.app import process

    return process.serve(config_path, workers)

"""Composition root: builds every object, lists every built-in, owns the only TaskGroup."""

from __future__ import annotations

from pathlib import Path

from router.app.inspect import check, explain

__all__ = ["check", "explain", "serve"]


def serve(config_path: Path, workers: int | None = None) -> int:
    """Run the gateway; see `router.app.process.serve`."""
    # gRPC and aiohttp are not needed to check or explain a configuration.
    from router.app import process

    return process.serve(config_path, workers)

"""A configuration file with every live provider that this installation has."""

from __future__ import annotations

from pathlib import Path

from router import config
from router.app.identity_files import check_identity
from router.carbon.providers.registry import providers
from router.config.settings import Config


def load(path: str | Path) -> Config:
    """As ``router.config.load``; what ``identity:`` names is read, too."""
    loaded = config.load(path, providers)
    check_identity(loaded)
    return loaded

"""A configuration file with every live provider that this installation has."""

from __future__ import annotations

from pathlib import Path

from router import config
from router.carbon.providers.registry import providers
from router.config.settings import Config


def load(path: str | Path) -> Config:
    """As ``router.config.load``."""
    return config.load(path, providers)

"""Live sources as a file has them, and what becomes of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from router.config import LiveSpec
from tests.config.samples import loaded, problems

EIA = {"kind": "eia", "key_env": "EIA_KEY"}
GB = {"kind": "gb_carbon_intensity"}
WATTTIME = {"kind": "watttime", "user_env": "WT_USER", "password_file": "wt.txt"}


def carbon(tmp_path: Path, *sources: dict[str, Any], **keys: Any) -> dict[str, str]:
    """What is wrong with these sources, by key."""
    return problems(tmp_path, {"carbon": {"sources": list(sources), **keys}})


def live(tmp_path: Path, source: dict[str, Any], **keys: Any) -> LiveSpec:
    """The one live source of a configuration."""
    settings = loaded(tmp_path, {"carbon": {"sources": [source], **keys}}).settings
    (spec,) = settings.carbon.sources
    assert isinstance(spec, LiveSpec)
    return spec

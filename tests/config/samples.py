"""A small valid configuration as plain data, to be varied and written out by tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.app.loading import load
from router.config import Config
from router.errors import ConfigError

_VALID: dict[str, Any] = {
    "version": 1,
    "origins": {
        "west": {"rtt_ms": {"us-west": 2, "us-east": 62}},
        "east": {"rtt_ms": {"us-west": 64, "us-east": 3}},
    },
    "default_origin": "west",
    "regions": {
        "us-west": {"grid_zone": "US-CAL-CISO", "pue": 1.11, "residency": ["us"]},
        "us-east": {"grid_zone": "US-MIDA-PJM", "pue": 1.15, "pue_source": "operator, 2024"},
    },
    "models": {
        "llama-3.1-8b": {"input_tokens": 180, "output_tokens": 200, "output_tokens_p95": 480}
    },
    "endpoints": [
        {
            "name": "west-0",
            "region": "us-west",
            "address": "127.0.0.1:9001",
            "models": [
                {
                    "name": "llama-3.1-8b",
                    "profile": "llama-3.1-8b@1xh100",
                    "context_tokens": 8192,
                }
            ],
            "max_in_flight": 512,
            "metrics": {"url": "http://127.0.0.1:8002/metrics", "engine": "vllm"},
        },
        {
            "name": "east-0",
            "region": "us-east",
            "address": "127.0.0.1:9002",
            "models": [
                {"name": "llama-3.1-8b", "profile": "llama-3.1-8b@1xh100", "context_tokens": 8192},
                {"name": "classifier", "profile": "classifier@cpu"},
            ],
            "max_in_flight": 512,
            "emulated": True,
        },
    ],
    "profiles": {
        "classifier@cpu": {
            "kind": "task",
            "energy_j": 3.2,
            "service_ms": 20,
            "max_batch": 128,
            "host_fraction": 0,
        }
    },
}

DELETE = object()


def sample(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The valid configuration; ``changes`` maps ``endpoints/0/name`` to its value."""
    data = copy.deepcopy(_VALID)
    for path, value in (changes or {}).items():
        *parents, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        here: Any = data
        for step in parents:
            here = here.setdefault(step, {}) if isinstance(here, dict) else here[step]
        if value is DELETE:
            del here[last]
        elif isinstance(here, list) and last == len(here):
            here.append(value)
        else:
            here[last] = value
    return data


def write(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """The varied configuration as a file."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(sample(changes)), encoding="utf-8")
    return path


def loaded(folder: Path, changes: dict[str, Any] | None = None) -> Config:
    """The varied configuration as values."""
    return load(write(folder, changes))


def problems(folder: Path, changes: dict[str, Any]) -> dict[str, str]:
    """What is wrong with the varied configuration, text by key path."""
    path = write(folder, changes)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.file == str(path)
    return dict(caught.value.problems)

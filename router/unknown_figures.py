"""A figure that is not known, or has no bound: null for programs, a dash for people.

Inside it is NaN or an infinity, which JSON cannot hold and people should not have to read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np


def or_none(value: float) -> float | None:
    """``value``, or None, which leaves a field out."""
    return value if math.isfinite(value) else None


def or_dash(value: float, pattern: str) -> str:
    """``value`` by a format such as ``{:.1f} ms``, or "-"."""
    return pattern.format(value) if math.isfinite(value) else "-"


def plain_values(value: Any) -> Any:
    """``value`` as JSON holds it, every number in it by `or_none`.

    Dataclasses, NamedTuples and mappings become dicts, sets sorted lists, enums their values.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return or_none(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain_values(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): plain_values(inner) for key, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(plain_values(inner) for inner in value)
    if isinstance(value, tuple | list):
        return [plain_values(inner) for inner in value]
    return value

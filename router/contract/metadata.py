"""What travels with a call beside its body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

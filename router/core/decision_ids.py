"""Decision ids: unique among all gateways, telling who decided, and not to be guessed."""

from __future__ import annotations

import re
from typing import Final

_DRAWS: Final = 2.0**48
_ID: Final = re.compile(r"([0-9A-Za-z]{1,64})-([0-9a-f]{1,12})-[0-9a-f]{1,12}")


def decision_id(identity: str, count: int, draw: float) -> str:
    """Of the ``count``-th decision of the process ``identity``; ``draw``: uniform in [0, 1)."""
    return f"{identity}-{count:x}-{int(draw * _DRAWS):x}"


def made_by(decision_id: str) -> tuple[str, int] | None:
    """Identity and count in a decision id; None for what is none: a caller's word may be
    anything."""
    found = _ID.fullmatch(decision_id)
    return None if found is None else (found[1], int(found[2], 16))

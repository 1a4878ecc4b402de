"""Decision ids: unique among all gateways, telling who decided and in which hour, and not to be
guessed."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_DRAWS: Final = 2.0**48
_ID: Final = re.compile(r"([0-9A-Za-z]{1,64})-([0-9a-f]{1,12})-[0-9a-f]{1,12}(?:-([0-9a-f]{1,6}))?")


class MadeId(NamedTuple):
    """What an id tells: the ``number``-th decision of the process ``identity``, in this ``hour``
    since 1970, UTC; None of ids that earlier gateways made."""

    identity: str
    number: int
    hour: int | None


def decision_id(identity: str, count: int, draw: float, hour: int) -> str:
    """Of the ``count``-th decision of the process ``identity``; ``draw``: uniform in [0, 1);
    ``hour``: since 1970, UTC, so that what is kept by the hour is found."""
    return f"{identity}-{count:x}-{int(draw * _DRAWS):x}-{hour:x}"


def made_by(decision_id: str) -> MadeId | None:
    """What a decision id tells; None for what is none: a caller's word may be anything."""
    found = _ID.fullmatch(decision_id)
    if found is None:
        return None
    return MadeId(found[1], int(found[2], 16), int(found[3], 16) if found[3] else None)

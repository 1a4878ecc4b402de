"""How it went to ask one source for one grid zone: told alike by pollers, chain and reports."""

from __future__ import annotations

from typing import Final, NamedTuple

# The code of an attempt that lost rows of an answer, and no more.
ROWS_DROPPED: Final = "rows_dropped"


class SourceAttempt(NamedTuple):
    """One source asked for one grid zone.

    ``ok``: what it gave is used. ``why``: what went wrong, or "", without a secret; a source that
    still serves a good value may have failed at the last call. ``code``: the reason of ``why`` in
    one word: of the error tree, ROWS_DROPPED or ``stale``. ``age_s``: of what it gave, None when it
    gave nothing.
    """

    source: str
    ok: bool
    why: str
    code: str = ""
    age_s: float | None = None

"""What a server's word of its own load may be, by whichever way it comes; anything else is
unknown."""

from __future__ import annotations

from typing import Final

# Requests: more than any server holds at once.
MOST_REQUESTS: Final = 1e6
# The used share of a cache: rounding of a ratio may overshoot 1 a little; a percentage (up to 100)
# must not pass for one.
KV_CEILING: Final = 1.001

"""What a server's metrics page says of the energy that it drew."""

from __future__ import annotations

import math
import re
from typing import Final

# Counters of joules since the server began, GPU and host, idle draw included; summed over models.
METERS: Final = ("emulated:energy_joules_total",)
_LINE: Final = re.compile(
    rf"\n(?:{'|'.join(map(re.escape, METERS))})(?:\{{[^\n]*\}})?[ \t]+([^\s]+)[^\n]*(?=\n)".encode()
)
_MOST_J: Final = 1e15
_MOST_LINE_BYTES: Final = 1 << 16


class MeterScan:
    """Reads one page, piece by piece. ``joules``: NaN until a meter is found on it."""

    def __init__(self) -> None:
        self.joules = math.nan
        self._rest = b"\n"

    def take(self, piece: bytes) -> None:
        """The next bytes of the page."""
        body = self._rest + piece
        end = body.rfind(b"\n")
        self._rest = body[end:][-_MOST_LINE_BYTES:]
        for found in _LINE.finditer(body, 0, end + 1):
            try:
                value = float(found[1])
            except ValueError:
                continue
            if 0.0 <= value <= _MOST_J:
                self.joules = value + (0.0 if math.isnan(self.joules) else self.joules)

"""Samples of a Prometheus text page, by byte scan: only lines of a wanted name are ever split.

As `router.load.exposition`, for pages of which more than a few gauges without labels is wanted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

# Of wanted names on one page: a rack of GPUs has hundreds, a server thousands of models.
MOST_SAMPLES: Final = 10_000
# A longer line is no sample.
MOST_LINE_BYTES: Final = 1 << 16
# Of a line, what follows the name: labels, value.
TAIL: Final = re.compile(
    rb'[ \t]*+(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*+")*+)\})?+[ \t]*+([^ \t{}"]++)(?:[ \t].*+)?+'
)
# From the beginning of a word alone: a long one without a value would be tried from each letter.
_LABEL: Final = re.compile(rb'(?<!\w)([A-Za-z_]\w*+)[ \t]*+=[ \t]*+"((?:[^"\\]|\\.)*+)"')
_ESCAPED: Final = re.compile(r"\\(.)")


class PageSample(NamedTuple):
    """``value``: NaN where it is no number, or the line is malformed."""

    name: str
    labels: Mapping[str, str]
    value: float


class SampleScan:
    """Reads one page, piece by piece; never raises. ``samples``: in their order, no more than
    MOST_SAMPLES."""

    def __init__(self, names: Iterable[str]) -> None:
        self.samples: list[PageSample] = []
        wanted = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        self._line = re.compile(rf"\n({wanted})(?=[ \t{{])([^\n]*+)(?=\n)".encode())
        self._rest = b"\n"

    @property
    def is_cut_off(self) -> bool:
        """Whether the last line has no end: more was to come."""
        return self._rest != b"\n"

    def take(self, piece: bytes) -> None:
        """The next bytes of the page."""
        body = self._rest + piece
        end = body.rfind(b"\n")
        self._rest = body[end:][-MOST_LINE_BYTES:]
        for found in self._line.finditer(body, 0, end + 1):
            if len(self.samples) >= MOST_SAMPLES:
                return
            self.samples.append(_sample(found[1].decode(), found[2]))


def _sample(name: str, tail: bytes) -> PageSample:
    match = TAIL.fullmatch(tail)
    if match is None:
        return PageSample(name, {}, math.nan)
    labels = {
        key.decode(): _ESCAPED.sub(_unescaped, value.decode("utf-8", "replace"))
        for key, value in _LABEL.findall(match[1] or b"")
    }
    return PageSample(name, labels, number(match[2]))


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


def number(token: bytes) -> float:
    """NaN for what is none. Python reads 1_000 as a number, the exposition format does not."""
    try:
        return math.nan if b"_" in token else float(token)
    except ValueError:
        return math.nan

"""What was shown of late, to be shown again: scenes of the last minutes, bounded in bytes.

Whoever asks is told the scene of the last look before the time that it asks for, as it was told
then. There are scenes only of times at which somebody looked on.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from router.telemetry.view import Json

# Of what is kept one in so long, on a clock that does not step back, and for so long.
EVERY_S: Final = 2.0
KEPT_S: Final = 900.0
# Scenes are alike, and squeezed for speed.
_LEVEL: Final = 1
# The line over time that leads to a scene; and the ticks before it, by which what is smoothed is.
_LINE_S: Final = 300.0
_BEFORE_S: Final = 10.0

_encoder = msgspec.json.Encoder()


class _Scene(NamedTuple):
    """``at``: of the clock that dates intensities; ``parts``: by name, squeezed."""

    ticks: float
    at: float
    row: list[Json] | None
    parts: Mapping[str, bytes]


class RecentSpan(NamedTuple):
    """Of the clock that dates intensities, unix s."""

    first: float
    last: float


class ShownScene(NamedTuple):
    """``parts``, ``before``: still squeezed."""

    at: float
    parts: Mapping[str, bytes]
    line: tuple[list[Json], ...]
    before: tuple[bytes, ...]

    def document(self) -> dict[str, Json]:
        """Its parts, ``history``, the line that leads to it, and ``before``, ticks that came before
        its own. Takes tens of ms of 1,000 endpoints, and any thread may do it."""
        parts: dict[str, Json] = {name: _whole(part) for name, part in self.parts.items()}
        line: list[Json] = [list(row) for row in self.line]
        return {
            **parts, "at": self.at, "history": line, "before": [_whole(one) for one in self.before],
        }  # fmt: skip


class RecentScenes:
    """Of one audience. ``most_bytes``: kept at most, however few scenes that is."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._scenes: deque[_Scene] = deque()
        # What changes seldom is kept once: by name, as it was told last.
        self._standing: dict[str, bytes] = {}
        # By identity of a part: what it takes, and how many scenes hold it.
        self._held: dict[int, int] = {}
        self._bytes = 0

    @property
    def span(self) -> RecentSpan | None:
        """From the oldest to the newest."""
        if not self._scenes:
            return None
        times = [scene.at for scene in self._scenes]
        return RecentSpan(min(times), max(times))

    def stand(self, name: str, data: object) -> None:
        """A part that is the same until it is told again."""
        self._standing[name] = _squeezed(data)

    def keep(self, ticks: float, at: float, tick: object, row: list[Json] | None) -> None:
        """The tick at ``ticks``, if one is due; ``row``: of the line over time."""
        if self._scenes and ticks - self._scenes[-1].ticks < EVERY_S:
            return
        scene = _Scene(ticks, at, row, {**self._standing, "tick": _squeezed(tick)})
        self._scenes.append(scene)
        for part in scene.parts.values():
            held = self._held.get(id(part), 0)
            self._held[id(part)] = held + 1
            self._bytes += 0 if held else len(part)
        while self._scenes[0].ticks < ticks - KEPT_S or (
            self._bytes > self._most and len(self._scenes) > 1
        ):
            self._drop()

    def scene(self, at: float, within_s: float = math.inf) -> ShownScene | None:
        """The last before ``at``, and no more than ``within_s``; None of none."""
        found = None
        for scene in self._scenes:
            if at - within_s <= scene.at <= at and (found is None or scene.at >= found.at):
                found = scene
        if found is None:
            return None
        line = tuple(
            scene.row
            for scene in self._scenes
            if scene.row is not None and found.ticks - _LINE_S <= scene.ticks <= found.ticks
        )
        before = tuple(
            scene.parts["tick"]
            for scene in self._scenes
            if found.ticks - _BEFORE_S <= scene.ticks < found.ticks
        )
        return ShownScene(found.at, found.parts, line, before)

    def _drop(self) -> None:
        for part in self._scenes.popleft().parts.values():
            self._held[id(part)] -= 1
            if not self._held[id(part)]:
                del self._held[id(part)]
                self._bytes -= len(part)


def _whole(part: bytes) -> Json:
    found: Json = msgspec.json.decode(zlib.decompress(part))
    return found


def _squeezed(data: object) -> bytes:
    return zlib.compress(_encoder.encode(data), _LEVEL)

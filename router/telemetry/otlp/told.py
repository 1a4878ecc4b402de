"""Exports to a collector, counted, and told in the log once when they begin to fail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

# Of the SDK and of its exporters, which would write a line for every batch.
_SDK_LOGGER: Final = "opentelemetry"
# Whose lines say why nothing can be exported. Others have what callers wrote in `tracestate`.
_EXPORTERS_LOGGER: Final = "opentelemetry.exporter"
_MOST_SHOWN: Final = 300
# For a call that is broken off, to say its last words where nobody hears them.
LEAVE_S: Final = 0.5

_log = logging.getLogger(__name__)


class _Quiet:
    """Keeps the SDK's own lines from the log for as long as anybody wants that. ``latest``: what an
    exporter complained of last, of any signal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._propagated = True
        # The SDK leaves out what it said of another signal a moment ago.
        self.latest = ""

    def begin(self, words: logging.Handler) -> None:
        logger = logging.getLogger(_SDK_LOGGER)
        with self._lock:
            if not self._wanted:
                self._propagated = logger.propagate
                logger.propagate = False
            self._wanted += 1
            logger.addHandler(words)

    def end(self, words: logging.Handler) -> None:
        logger = logging.getLogger(_SDK_LOGGER)
        with self._lock:
            logger.removeHandler(words)
            self._wanted -= 1
            if not self._wanted:
                logger.propagate = self._propagated


_quiet = _Quiet()


class ToldExports:
    """Of one signal. ``taken``: how many items were handed to its exporter, whatever became of
    them; ``thread``: that exports, 0 before it did."""

    def __init__(
        self, what: str, on_items: Callable[[str, int], None], clean: Callable[[str], str]
    ) -> None:
        """``what``: in the plural; ``on_items``: told of how many were exported, failed or dropped;
        ``clean``: takes secrets out of what is logged."""
        self.taken = 0
        self.thread = 0
        self._what = what
        self._on_items = on_items
        self._clean = clean
        self._failing = False
        self._ended = False
        self._released = False
        self._words = _LastWords()
        self._words.addFilter(logging.Filter(_EXPORTERS_LOGGER))
        _quiet.begin(self._words)

    def export(self, call: Callable[[], bool], items: int) -> bool:
        """``call`` the exporter for so many; whether they were sent."""
        self.taken += items
        if self._ended:
            self._on_items("dropped", items)
            return False
        self.thread = self._words.thread = threading.get_ident()
        self._words.text = ""
        try:
            sent = call()
        except Exception as error:
            self._words.text = type(error).__name__
            sent = False
        self._on_items("exported" if sent else "failed", items)
        if not sent and not self._failing and not self._ended:
            cause = self._clean(self._words.text or _quiet.latest)[:_MOST_SHOWN]
            _log.warning("%s cannot be exported", self._what, extra={"cause": cause})
        elif sent and self._failing:
            _log.info("%s are exported again", self._what)
        self._failing = not sent
        return sent

    def dropped(self, items: int) -> None:
        """So many never reach the exporter."""
        self._on_items("dropped", items)

    def end(self) -> bool:
        """Send nothing more; whether it was this call that ended it."""
        was, self._ended = self._ended, True
        return not was

    def release(self) -> None:
        """The SDK's own lines go where they went before. Safe to call twice."""
        if not self._released:
            self._released = True
            _quiet.end(self._words)


class _LastWords(logging.Handler):
    """What an exporter complained of last, in the thread that exports: others have theirs."""

    text = ""
    thread = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if record.thread == self.thread:
            self.text = _quiet.latest = record.getMessage()

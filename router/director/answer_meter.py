"""How long an answer is, from its first messages: what else tells of a model's output tokens?"""

from __future__ import annotations

import math

from router.contract import UNTIMED, AnswerSize, ReportReader
from router.model import Profile, TaskProfile

# Messages of a stream that are looked into: enough to tell their mean size.
_SIZED_MESSAGES = 8


class AnswerMeter:
    """Of one attempt. ``profile``: of the model; the answer of a task is not looked into."""

    __slots__ = (
        "_bytes", "_cached_tokens", "_input_tokens", "_left", "_reports", "_sized",
        "_stated_tokens", "_times",
    )  # fmt: skip

    def __init__(self, reports: ReportReader, profile: Profile) -> None:
        self._reports = reports
        self._left = 0 if isinstance(profile, TaskProfile) else _SIZED_MESSAGES
        self._sized = 0
        self._bytes = 0.0
        self._stated_tokens = math.nan
        self._cached_tokens = math.nan
        self._input_tokens = math.nan
        self._times = UNTIMED

    def add(self, message: bytes, streamed: bool) -> None:
        """Take in one message."""
        if not self._left:
            return
        size = self._reports.size(message, streamed)
        self._left -= 1
        self._sized += 1
        self._bytes += size.output_bytes
        self._stated_tokens = size.output_tokens
        self._times = size.times
        if size.cached_tokens == size.cached_tokens:
            self._cached_tokens = size.cached_tokens
        if size.input_tokens == size.input_tokens:
            self._input_tokens = size.input_tokens

    def size(self, messages: int) -> AnswerSize:
        """Of the whole answer; NaN where nothing was looked into."""
        if not self._sized:
            return AnswerSize(math.nan, math.nan)
        whole = self._bytes * max(messages, 1) / self._sized
        # What the first messages of a stream state of the answer is not of the whole.
        stated, times = math.nan, UNTIMED
        if messages <= 1:
            stated, times = self._stated_tokens, self._times
        return AnswerSize(whole, stated, self._cached_tokens, self._input_tokens, times)

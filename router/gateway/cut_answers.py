"""Answers that end before their end: what came of them was used, by whoever left, too."""

from __future__ import annotations

from router.director import RoutedStream
from router.errors import UpstreamError
from router.identity.limits import Use


def settle_cut(
    use: Use, stream: RoutedStream, expected_tokens: float, error: BaseException
) -> None:
    """``stream`` ends in ``error``: set what its caller had of it against the limit.

    Nothing is settled where nothing came. Whoever leaves pays what was expected at least: what the
    server did after the last piece is not known, and who reads all but the last event of an answer
    would otherwise have it for little. Of one that the server lost only what came counts.
    """
    if stream.receipt is not None or not stream.pieces:
        return
    least = 0.0 if isinstance(error, UpstreamError) else expected_tokens
    use.settle(max(least, float(stream.pieces)))

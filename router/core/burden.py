"""What requests add to the replica that they are on, and what all of them come to there.

A request of prompt time w and n output tokens is on its replica for about n iterations: on the mean
each of them carries w / n of the prompt (SCIENCE, 1b, and `router.core.terms`).
"""

from __future__ import annotations

from typing import NamedTuple

from router.core.jit import entry
from router.model import Burden

# Requests that nothing is known of count as the last ones that went there: of each new one so much.
USUAL_WEIGHT = 1.0 / 16.0


# Of a sequence's answer so much is cached while it decodes, on the mean over its run.
_CACHED_OF_ANSWER = 0.5


@entry("f8(f8, f8)")
def context_tokens(input_tokens, output_tokens):  # type: ignore[no-untyped-def]
    """Tokens that a sequence has cached, on the mean over its run."""
    return input_tokens + _CACHED_OF_ANSWER * output_tokens


@entry("UniTuple(f8, 3)(f8, f8, f8)")
def burdens(prompt_ms, input_tokens, output_tokens):  # type: ignore[no-untyped-def]
    """(pace_ms, pace_ms2, cached_tokens) of a request, as `Burdens` has them."""
    pace_ms = prompt_ms / max(output_tokens, 1.0)
    return pace_ms, prompt_ms * pace_ms, context_tokens(input_tokens, output_tokens)


def burden_of(
    prompt_ms: float,
    input_tokens: float,
    output_tokens: float,
    pace_cap_ms: float,
    paced_ms: float = 0.0,
) -> Burden:
    """Of a request whose prompt takes ``prompt_ms`` of iterations where it goes."""
    pace_ms, _, cached_tokens = burdens(prompt_ms, input_tokens, output_tokens)
    return Burden(prompt_ms, pace_ms, cached_tokens, pace_cap_ms, paced_ms)


class Burdens(NamedTuple):
    """Of requests' prompt times over their output tokens, of the squares of those times over them,
    and of their cached tokens: sums over requests, or means of one."""

    pace_ms: float
    pace_ms2: float
    cached_tokens: float

    def plus(self, burden: Burden) -> Burdens:
        """With one request more."""
        return Burdens(
            self.pace_ms + burden.pace_ms,
            self.pace_ms2 + burden.pace_ms2,
            self.cached_tokens + burden.cached_tokens,
        )

    def less(self, burden: Burden) -> Burdens:
        """With one request less; never below 0, whatever is rounded."""
        return Burdens(
            max(0.0, self.pace_ms - burden.pace_ms),
            max(0.0, self.pace_ms2 - burden.pace_ms2),
            max(0.0, self.cached_tokens - burden.cached_tokens),
        )

    def towards(self, burden: Burden) -> Burdens:
        """As a mean that learns of one request."""
        return Burdens(
            self.pace_ms + USUAL_WEIGHT * (burden.pace_ms - self.pace_ms),
            self.pace_ms2 + USUAL_WEIGHT * (burden.pace_ms2 - self.pace_ms2),
            self.cached_tokens + USUAL_WEIGHT * (burden.cached_tokens - self.cached_tokens),
        )

    def with_usual(self, usual: Burdens, count: float) -> Burdens:
        """With ``count`` requests more, of which but their number is known."""
        return Burdens(
            self.pace_ms + count * usual.pace_ms,
            self.pace_ms2 + count * usual.pace_ms2,
            self.cached_tokens + count * usual.cached_tokens,
        )


NO_BURDENS = Burdens(0.0, 0.0, 0.0)

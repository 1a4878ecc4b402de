"""What a caller says of its own request: one gate for every way in, before it can steer or teach.

Nobody can check such a figure when it comes, so it has to lie within what there can be. Where the
figure is a parameter of the model server's (``max_tokens``), it is for that server to refuse:
routing ignores it and says so in the decision's flags. Where it is the gateway's own field, the
request is refused.
"""

from __future__ import annotations

import math

from router.model import UNLIMITED, Request

# A hundred times the longest context that models have.
MAX_TOKENS = 1e8
# What one protobuf message can hold.
MAX_PAYLOAD_BYTES = 2**31 - 1
MAX_BUDGET_MS = 3.6e6

INPUT_TOKENS_IGNORED = "input_tokens_ignored"
OUTPUT_LIMIT_IGNORED = "output_limit_ignored"
IGNORED = (INPUT_TOKENS_IGNORED, OUTPUT_LIMIT_IGNORED)

# A token of text takes a byte at least; raw pixels take two or three thousand.
_MOST_BYTES_PER_TOKEN = 4096.0


def tokens(value: object) -> float:
    """``value`` as a number of tokens, 1 to MAX_TOKENS; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if 1 <= value <= MAX_TOKENS else math.nan


def counts(
    input_tokens: float, max_output_tokens: float, ignored: tuple[str, ...] = ()
) -> tuple[float, float, tuple[str, ...]]:
    """Both counts of a request as far as they can be, NaN and inf where not, and what was
    ``ignored``, these included. NaN and inf are what a request has that says nothing.
    """
    if math.isnan(tokens(input_tokens)) and not math.isnan(input_tokens):
        input_tokens, ignored = math.nan, (*ignored, INPUT_TOKENS_IGNORED)
    if math.isnan(tokens(max_output_tokens)) and max_output_tokens != UNLIMITED:
        max_output_tokens, ignored = UNLIMITED, (*ignored, OUTPUT_LIMIT_IGNORED)
    return input_tokens, max_output_tokens, tuple(dict.fromkeys(ignored))


def budget_ms(value: float) -> float:
    """``value`` as a latency budget in ms, above 0 and up to MAX_BUDGET_MS; NaN for another."""
    return value if 0.0 < value <= MAX_BUDGET_MS else math.nan


def quality(value: float) -> float:
    """``value`` as the quality of a variant, above 0 and up to 1; NaN for another."""
    return value if 0.0 < value <= 1.0 else math.nan


def fits_payload(request: Request) -> bool:
    """Whether the prompt can be as long as the caller says, or nothing is said of it.

    What cannot be does not teach how quick a prefill is: it would be believed by everybody.
    """
    said, size = request.input_tokens, request.payload_bytes
    return not (said > size or said * _MOST_BYTES_PER_TOKEN < size)

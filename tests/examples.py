"""How many random cases a property is tried with.

Each run of the suite tries some; ``EXAMPLES_FACTOR`` says how many times more (`make faults`).
"""

from __future__ import annotations

import os

_FACTOR = float(os.environ.get("EXAMPLES_FACTOR", "1"))


def examples(count: int) -> int:
    """Of Hypothesis' ``max_examples``, where ``count`` will do for one run of many."""
    return max(1, round(count * _FACTOR))

"""How everything that is compiled is compiled: one set of options, one way to inline.

No reference counting: in these loops it costs more than all of the arithmetic. In return nothing
that is compiled can allocate, so callers hand in every array that is written to.
"""

from __future__ import annotations

from typing import Any, Final

import numba

OPTIONS: Final[dict[str, Any]] = {"error_model": "numpy", "_nrt": False}
# Without a signature: compiled within whoever calls it.
compiled = numba.njit(**OPTIONS)
inlined = numba.njit(forceinline=True, **OPTIONS)
# Compiled at its first call, or read from its cache.
cached = numba.njit(cache=True, **OPTIONS)


def entry(signature: str) -> Any:
    """Compiled when imported, or read from its cache: what plain Python calls too."""
    return numba.njit(signature, cache=True, **OPTIONS)

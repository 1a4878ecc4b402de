"""Processes that end with their parent, however it dies.

On Linux the kernel sends SIGTERM to the child when its parent dies, even by SIGKILL. Elsewhere who
starts children has to see to it: `multiprocessing` gives them a pipe that ends with their parent.
Imports next to nothing, so that a child is tied before it imports the rest.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int) -> None:
    """Tie this process to its parent; ends it at once when ``parent_pid`` is its parent no more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # A parent that died before the tie sends nothing any more.
    if os.getppid() != parent_pid:
        raise SystemExit(128 + signal.SIGTERM)

"""``carbon-router`` as a child that does not outlive its parent.

On Linux the kernel sends SIGTERM when the parent dies, even by SIGKILL; elsewhere the parent's own
clean-up has to do.
"""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then run the command line."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # After the tie: the imports take longest.
    from router.cli import main as run

    run()


if __name__ == "__main__":
    main()

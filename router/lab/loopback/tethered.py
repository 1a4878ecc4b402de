"""``carbon-router`` as a child that does not outlive its parent.

The first argument is the parent's process id, the rest is the command line.
"""

from __future__ import annotations

import sys

from router.parent_process import end_with_parent


def main() -> None:
    """Tie this process to its parent, then run the command line."""
    end_with_parent(int(sys.argv.pop(1)))
    # After the tie: the imports take longest.
    from router.cli import main as run

    run()


if __name__ == "__main__":
    main()

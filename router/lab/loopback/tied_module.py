"""Any module as a child that does not outlive its parent: ``PARENT_PID MODULE [ARGUMENT]...``."""

from __future__ import annotations

import runpy
import sys

from router.parent_process import end_with_parent


def main() -> None:
    """Tie this process to its parent, then run the module as ``python -m`` does."""
    end_with_parent(int(sys.argv[1]))
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

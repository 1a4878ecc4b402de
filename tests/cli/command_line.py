"""The command line as a test calls it."""

from __future__ import annotations

import pytest

from router import cli


def run(*arguments: str) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    code = exit_.value.code
    return code if isinstance(code, int) else 0

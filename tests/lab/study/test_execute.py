"""Processes of a study: what goes wrong in one is told as what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.errors import ConfigError
from router.lab.study.execute import TaskProgress, _share_out
from router.lab.study.tasks import StudySpec, Task


def test_a_process_that_cannot_begin_says_why(tmp_path: Path) -> None:
    """Rather than to be taken for one that ran out of memory."""
    order = StudySpec(tmp_path / "gone.yaml", (), None, None, rows=False, fluid=False)
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        _share_out(order, [Task("bound", 0), Task("run", 0)], 2, TaskProgress())

"""What is wrong with a folder, or a place for files, is said of the key that names it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from router.app.deferral.process import ProcessDeferral
from router.config.deferral import DeferralSchema, deferral_settings
from router.errors import ConfigError


def problem_of(**changes):
    schema = DeferralSchema(dir="deferred")
    settings = replace(deferral_settings(schema, Path()), **changes)
    state = SimpleNamespace(redis=None)
    told = SimpleNamespace(deferral=settings, state=state, server=SimpleNamespace())
    config = SimpleNamespace(settings=told, file="gateway.yaml")
    with pytest.raises(ConfigError) as caught:
        ProcessDeferral(config, "gw", None, None, None, {})
    return str(caught.value)


async def test_the_folder_and_the_files_are_told_apart(tmp_path):
    (tmp_path / "file").write_text("")
    assert "deferral.dir: " in problem_of(dir=tmp_path / "file" / "folder")
    files = f"file://{tmp_path}/file/folder"
    told = problem_of(dir=tmp_path / "kept", files=files)
    assert "deferral.files: " in told and "deferral.dir" not in told

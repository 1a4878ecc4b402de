from __future__ import annotations

from pathlib import Path

import pytest

from router.identity.keys_file import key_table, read_keys
from tests.cli.command_line import run
from tests.identity.support import NOW


def test_a_key_alone_is_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.yaml"
    said = ("--name", "chat", "--tenant", "acme", "--models", "llama-*, gpt", "--file", str(file))
    roles = ("--roles", "infer,receipts", "--residency", "EU", "--expires", "2100-01-01T00:00Z")
    assert run("key", "new", *said, *roles) == 0
    captured = capsys.readouterr()
    (text,) = captured.out.split()
    assert text not in captured.err
    found = key_table(read_keys(file)).find(text, NOW)
    assert (found.name, found.tenant, found.models) == ("chat", "acme", ("llama-*", "gpt"))
    assert (sorted(found.roles), found.residency) == (["infer", "receipts"], {"eu"})
    assert run("key", "ls", str(file)) == 0
    listed = capsys.readouterr().out
    assert "2100-01-01T00:00Z" in listed and text not in listed
    assert run("key", "revoke", str(file), text[4:16]) == 0
    assert "a key of chat" in capsys.readouterr().out
    assert run("key", "revoke", str(file), text) == 2
    assert text not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--name", "a", "--roles", "root"), "must be one of infer"),
        (("--name", "a", "--expires", "tomorrow"), "is not a time"),
    ],
)
def test_what_is_wrong_is_told(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("key", "new", *arguments) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""

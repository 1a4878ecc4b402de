from __future__ import annotations

from pathlib import Path

import pytest

from router.identity.keys_file import key_table, read_keys
from tests.cli.command_line import run
from tests.config.samples import write
from tests.identity.support import NOW
from tests.state.redis.servers import server


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


def test_what_a_key_may_is_said_by_options_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "keys.yaml")
    limits = ("--requests-per-s", "5", "--tokens-per-min", "1e5", "--max-concurrent", "8")
    more = ("--origins", "a,b", "--weight", "2.5", "--models", "llama-*", "--residency", "eu")
    # The file as an argument, too.
    assert run("key", "new", file, "--name", "chat", *limits, *more) == 0
    text = capsys.readouterr().out.strip()
    found = key_table(read_keys(Path(file))).find(text, NOW)
    assert (found.origins, found.weight) == (("a", "b"), 2.5)
    assert (found.limits.requests_per_s, found.limits.max_concurrent) == (5.0, 8)
    assert run("key", "ls", "--file", file) == 0
    listed = capsys.readouterr().out
    for word in ("llama-*", "eu", "a b", "5 requests_per_s", "8 max_concurrent", "2.5"):
        assert word in listed
    assert run("key", "revoke", text[4:16], "--file", file) == 0
    assert "a key of chat" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ls",), "say which file"),
        (("ls", "a.yaml", "--file", "b.yaml"), "give one file, once"),
        (("ls", "a.yaml", "--store", "b.yaml"), "or one store"),
        (("revoke", "abcdefghijkl"), "say which file"),
        (("revoke", "a.yaml", "b.yaml", "abcdefghijkl"), "one file and one id"),
    ],
)
def test_a_file_is_given_once(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("key", *arguments) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--name", "a", "--expires", "2020-01-01T00:00Z"), "lies in the past"),
        (("--name", "a", "--weight", "0"), "greater than 0"),
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


def test_keys_are_kept_in_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with server() as running:
        redis = {"url": running.url, "timeout_ms": 2000}
        changes = {"state": {"redis": redis}, "identity": {"keys_in_store": True}}
        config = str(write(tmp_path, changes))
        assert run("check", config, "--store") == 0
        assert "the store has no keys" in capsys.readouterr().out
        chat = ("new", "--name", "chat", "--models", "[ab]*", "--store", config)
        assert run("key", *chat) == 2
        captured = capsys.readouterr()
        assert "--first" in captured.err and captured.out == ""
        assert run("key", *chat, "--first") == 0
        captured = capsys.readouterr()
        (text,) = captured.out.split()
        assert text not in captured.err and "the first in the store of" in captured.err
        assert run("key", "ls", "--store", config) == 0
        listed = capsys.readouterr().out
        assert text[4:16] in listed and "[ab]*" in listed
        assert run("check", config, "--store") == 0
        assert "1 keys of 1 principals" in capsys.readouterr().out
        assert run("key", "revoke", "--store", config, text[4:16]) == 0
        assert "a key of chat" in capsys.readouterr().out
        copy = tmp_path / "copy.yaml"
        assert run("key", "new", "--name", "late", "--file", str(copy)) == 0
        late = capsys.readouterr().out.strip()
        assert run("key", "import", str(copy), "--store", config) == 0
        assert "1 keys of 1 principals" in capsys.readouterr().out
        assert run("key", "export", "--store", config) == 0
        exported = capsys.readouterr().out
        assert exported == copy.read_text() and late[4:16] in exported
        without = str(write(tmp_path, {"state": {"redis": redis}}))
        assert run("key", "ls", "--store", without) == 0
        assert "set identity.keys_in_store" in capsys.readouterr().err
    assert run("key", "new", "--name", "chat", "--store", config) == 2
    captured = capsys.readouterr()
    assert "it cannot be reached" in captured.err
    assert captured.out == ""

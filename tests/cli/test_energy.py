from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command_line import run


def test_energy_shows_draws_and_prints_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("energy", "llama-3.1-8b", "--prompt", "1000", "--answer", "200") == 0
    assert "answer of 200 tokens to a prompt of 1000" in capsys.readouterr().out
    assert run("energy", "llama-3.1-8b", "--zone", "DE", "--at", "2026-07-15T12:00Z", "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["places"][0]["when"] == "usual of July, 12 h UTC"
    pytest.importorskip("matplotlib", reason="LOUD: matplotlib is not installed")
    assert run("energy", "qwen3-8b", "--plot", str(tmp_path / "day.png")) == 0
    assert (tmp_path / "day.png").stat().st_size > 1000


def test_energy_estimates_by_size_and_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("energy", "ours", "--params", "12", "--gpu", "B200") == 0
    assert "by size" in capsys.readouterr().out
    assert run("energy", "--list") == 0
    assert "deepseek-v3.1" in capsys.readouterr().out
    assert run("energy", "--list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tasks"]
    assert run("profiles") == 0
    assert "llama-3.1-8b@1xh100" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("lama-3.1-8b",), "did you mean 'llama-3.1-8b'?"),
        (("llama-3.1-8b", "--zone", "US-TEX"), "US-TEX-ERCO"),
        (("llama-3.1-8b", "--answer", "0"), "--answer: a number of tokens from 1"),
        (("llama-3.1-8b", "--prompt", "-1"), "--prompt: a number of tokens from 1"),
        (("llama-3.1-8b", "--at", "noon"), "--at"),
        (("llama-3.1-8b", "--plot", "day.txt"), "ends in .png, .svg, .pdf"),
        (("llama-3.1-8b", "--plot", "no-such-folder/day.png"), "there is no folder"),
        ((), "name at least one model"),
    ],
)
def test_a_wrong_argument_exits_with_two_and_says_the_fix(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("energy", *arguments) == 2
    assert told in capsys.readouterr().err

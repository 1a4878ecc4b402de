from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ConfigError
from router.trust.secrets import Secret, read_secret, shown

KEY = "k3y-9f27ab51c0de"


def test_a_secret_shows_as_stars() -> None:
    secret = Secret(KEY)
    assert secret.reveal() == KEY
    for text in (str(secret), repr(secret), f"{secret}", f"{[secret]}", f"{secret!r:>8}"):
        assert KEY not in text and "***" in text
    for store in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="not to be stored"):
            store(secret)


def test_from_the_environment_and_from_a_file(tmp_path: Path) -> None:
    environ = {"EM_KEY": f" {KEY}\n"}
    found = read_secret("c.yaml", "carbon.key", env="EM_KEY", environ=environ)
    assert found.reveal() == KEY
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_secret("c.yaml", "carbon.key", file=file, environ={}).reveal() == KEY


def problem(**named: object) -> str:
    with pytest.raises(ConfigError) as caught:
        read_secret("c.yaml", "carbon.key", **named)  # type: ignore[arg-type]
    assert "c.yaml: carbon.key: " in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_read_is_named_and_its_content_is_not(tmp_path: Path) -> None:
    assert "EM_KEY is not set" in problem(env="EM_KEY", environ={})
    assert "EM_KEY is empty" in problem(env="EM_KEY", environ={"EM_KEY": " \n"})
    told = problem(env="EM_KEY", environ={"EM_KEY": f"{KEY}\nX-Evil: 1"})
    assert "one line" in told and KEY not in told
    assert "one line" in problem(env="EM_KEY", environ={"EM_KEY": "x" * 9000})
    assert "No such file" in problem(file=tmp_path / "absent", environ={})
    (tmp_path / "bytes").write_bytes(b"\xff\xfe" + KEY.encode())
    told = problem(file=tmp_path / "bytes", environ={})
    assert "not UTF-8" in told and KEY not in told
    assert "either" in problem(environ={})
    assert "either" in problem(env="EM_KEY", file=tmp_path / "key", environ={})


def test_a_part_of_an_answer_is_shown_unless_it_tells_a_secret() -> None:
    secret = Secret(KEY)
    assert shown("US-CAL-CISO", secret) == "'US-CAL-CISO'"
    assert shown(None, secret) == "'None'"
    assert shown("x" * 400, secret) == "'str'"
    assert shown("x" * 400 + KEY, secret) == "***"
    assert shown({"zone": KEY}, secret) == "'dict'"
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested, secret) == "'list'"
    assert shown("DE", Secret("")) == "'DE'"


@given(st.text(max_size=30), st.text(max_size=30), st.integers(0, 8), st.integers(8, 16))
def test_no_half_of_a_secret_is_ever_shown(
    before: str, after: str, start: int, length: int
) -> None:
    part = KEY[start : start + length]
    if len(part) >= 8:
        assert part not in shown(before + part + after, Secret(KEY))

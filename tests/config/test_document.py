from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config import document
from router.config.document import MAX_DEPTH, parse
from router.errors import ConfigError


def refused(text: str) -> tuple[tuple[str, str], ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    assert caught.value.file == "f.yaml"
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("12:30", "12:30"),
        ("010", 10),
        ("-3", -3),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("2022-05-14", "2022-05-14"),
        ("2022-05-14T00:00Z", "2022-05-14T00:00Z"),
        ("2022-05-14T00:00:00Z", "2022-05-14T00:00:00Z"),
        ("~", None),
        ("", None),
        ("null", None),
        ("'1'", "1"),
        ("0x10", "0x10"),
        (".inf", math.inf),
        ("127.0.0.1:8500", "127.0.0.1:8500"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    got = parse(f"key: {text}", "f.yaml")["key"]
    assert got == value
    assert type(got) is type(value)


def test_an_empty_document_is_nothing() -> None:
    assert parse("# only a comment\n", "f.yaml") is None


def test_all_duplicate_keys_are_reported_with_path_and_lines() -> None:
    text = "a: 1\nb:\n  - c: 1\n    c: 2\na: 2\n"
    assert refused(text) == (
        ("b[0].c", "given twice, on lines 3 and 4; remove one"),
        ("a", "given twice, on lines 1 and 5; remove one"),
    )


def test_merge_keys_fill_in_and_do_not_count_as_duplicates() -> None:
    text = "x: &x {p: 1, q: 1}\ny: {<<: *x, p: 2}\n"
    assert parse(text, "f.yaml")["y"] == {"p": 2, "q": 1}


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: &x {b: {c: *x}}", "&x [1, *x]"])
def test_recursive_aliases_are_refused(text: str) -> None:
    ((key, what),) = refused(text)
    assert key == ""
    assert "an alias contains itself" in what


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for level in range(1, 9):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    assert "expand to more than" in refused("\n".join(lines))[0][1]


def test_sharing_by_alias_is_allowed() -> None:
    assert parse("a: &a {k: 1}\nb: [*a, *a]", "f.yaml")["b"] == [{"k": 1}, {"k": 1}]


def test_deep_nesting_is_refused_before_it_can_exhaust_the_stack() -> None:
    assert f"more than {MAX_DEPTH} deep" in refused("[" * 200_000)[0][1]
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f.yaml")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: b: c", "line 1, column 5"),
        ("\ta: 1", "indent with spaces"),
        ("a: \x00", "control characters"),
        ("---\n---\n", "another document"),
        ("{a: b}: 1", "a key must be plain text"),
        ("a: !!python/object:os.system x", "constructor"),
        ("a: !!int x", "cannot be read"),
        ("a: " + "9" * 5000, "cannot be read"),
        ("a: 'unclosed", "line"),
        ("a: *missing", "undefined alias"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_place(text: str, part: str) -> None:
    assert part in refused(text)[0][1]


def test_a_huge_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 10)
    assert "larger than" in refused("a: 12345678901")[0][1]


@given(st.text(max_size=60) | st.text(alphabet="ab: -[]{}&*!#'\"\n<,|>?%@`", max_size=60))
def test_any_text_parses_or_is_a_config_error(text: str) -> None:
    try:
        parse(text, "f.yaml")
    except ConfigError as error:
        assert error.problems


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


class _Quoting(yaml.SafeDumper):
    """Quotes every string: PyYAML follows YAML 1.1, to which ``0E0`` is text; to 1.2 it is 0."""


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


@given(_TREES)
def test_what_is_quoted_is_read_as_it_was_written(tree: object) -> None:
    assert parse(yaml.dump(tree, Dumper=_Quoting), "f.yaml") == tree

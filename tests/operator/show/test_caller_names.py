import pytest

from router.operator.show.caller_names import shown_line, shown_name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("meta/llama:8b", "meta/llama:8b"),
        ("[/x][bold]m", "[/x][bold]m"),
        ("\x1b[31mred\x07", "\ufffd[31mred\ufffd"),
        ("a\u202eb\nc\0", "a\ufffdb\ufffdc\ufffd"),
    ],
)
def test_a_name_is_shown_and_not_obeyed(name, shown):
    assert shown_name(name).plain == shown


def test_a_line_stays_one_and_has_its_style():
    line = shown_line("a: b\nc [red]\udcff", "bold")
    assert (line.plain, line.style) == ("a: b\ufffdc [red]\ufffd", "bold")

import io
import json

import pytest

from router.deferral.input_lines import InputLine, body_of, read, read_body, split
from router.deferral.values import BadLine, NewJob
from tests.deferral.support import CHAT, line

MOST = 10_000


def read_all(text, most=MOST, endpoint=CHAT):
    return [read(one, endpoint, most) for one in split(io.BytesIO(text), most)]


def test_each_line_is_a_job_where_it_stands():
    first, second = line("one"), line("two", model="other")
    found = read_all(first + second)
    assert [(job.line, job.custom_id, job.model) for job in found] == [
        (1, "one", "llama"), (2, "two", "other"),
    ]  # fmt: skip
    text = (first + second)[found[1].offset :][: found[1].size_bytes]
    assert json.loads(body_of(text)) == json.loads(second)["body"]
    assert found[1].body_bytes == len(body_of(text))


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf%s", b"\r\n \n%s", b"%s\r\n\r\n", b"\n%s  \n"])
def test_what_editors_add_says_nothing(text, tmp_path):
    path = tmp_path / "in"
    path.write_bytes(text % line("one").rstrip())
    with path.open("rb") as file:
        (job,) = (read(one, CHAT, MOST) for one in split(file, MOST))
        body = read_body(file, job.offset, job.size_bytes)
    assert job.custom_id == "one" and json.loads(body)["model"] == "llama"


@pytest.mark.parametrize(
    ("text", "code", "custom_id", "param"),
    [
        (b"{", "invalid_json_line", "", None),
        (b"[1]", "invalid_json_line", "", None),
        (b"null", "invalid_json_line", "", None),
        (b"\xff\xfe", "invalid_json_line", "", None),
        (line("one").replace(b"one", b"\xff"), "invalid_json_line", "", None),
        (b'{"custom_id": "one"', "invalid_json_line", "", None),
        (b"{" * 5000, "invalid_json_line", "", None),
        (b'{"a":' * 1500 + b"1" + b"}" * 1500, "invalid_json_line", "", None),
        (b"{}", "invalid_custom_id", "", "custom_id"),
        (b'{"custom_id": 7}', "invalid_custom_id", "", "custom_id"),
        (line("x" * 513), "invalid_custom_id", "x" * 512, "custom_id"),
        (line("one", method="GET"), "invalid_method", "one", "method"),
        (line("one", url="/v1/embeddings"), "invalid_url", "one", "url"),
        (line("one", url="http://elsewhere/v1/chat/completions"), "invalid_url", "one", "url"),
        (line("one", model=""), "invalid_body", "one", "body.model"),
        (line("one", model=7), "invalid_body", "one", "body.model"),
        (line("one", model="m" * 257), "invalid_body", "one", "body.model"),
        (line("one", stream=True), "invalid_body", "one", "body.stream"),
        (line("one", stream=1), "invalid_body", "one", "body.stream"),
        (
            b'{"custom_id":"one","method":"POST","url":"/v1/chat/completions","body":[]}',
            "invalid_body", "one", "body",
        ),
    ],
)  # fmt: skip
def test_what_asks_nothing_says_why(text, code, custom_id, param):
    first, bad, last = read_all(line("first") + text.rstrip() + b"\n" + line("last"))
    assert isinstance(first, NewJob) and isinstance(last, NewJob)
    assert isinstance(bad, BadLine)
    assert (bad.error.code, bad.custom_id, bad.error.param) == (code, custom_id, param)
    assert bad.error.line == bad.line == 2 and bad.error.message.startswith("line 2: ")
    assert len(bad.error.message) <= 1024


def test_a_line_without_end_is_passed_over():
    long = line("long", padding="x" * 50_000)
    first, bad, last = read_all(line("one") + long + line("two"), 2000)
    assert (first.custom_id, bad.error.code, last.custom_id) == ("one", "line_too_long", "two")
    assert last.offset == len(line("one")) + len(long)
    (bad,) = read_all(b"x" * 5000, 2000)
    assert bad.error.code == "line_too_long"
    # One that is just as long as it may be is none of these.
    (job,) = read_all(line("one"), len(line("one").rstrip()))
    assert job.custom_id == "one"


def test_a_line_of_many_names_is_no_matter():
    many = json.dumps({f"k{n}": n for n in range(10_000)})
    (bad,) = read_all(many.encode(), 10**6)
    assert bad.error.code == "invalid_custom_id"


def test_a_file_that_changed_is_seen():
    file = io.BytesIO(line("one"))
    with pytest.raises(ValueError, match="shorter"):
        read_body(file, 0, 10_000)
    with pytest.raises(ValueError, match="not what it was"):
        read_body(file, 3, 20)


def test_blank_files_have_no_lines():
    assert list(split(io.BytesIO(b""), MOST)) == []
    assert list(split(io.BytesIO(b"\n\n  \r\n"), MOST)) == []
    assert list(split(io.BytesIO(b"a"), MOST)) == [InputLine(1, 0, b"a")]

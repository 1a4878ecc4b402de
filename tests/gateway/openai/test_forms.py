"""The model that a form names."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import MalformedRequestError
from router.gateway.openai.forms import is_form, model_in

KIND = "multipart/form-data; boundary=b0-x"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav'


def form(*parts):
    whole = b"".join(b"--b0-x\r\n" + head + b"\r\n\r\n" + value + b"\r\n" for head, value in parts)
    return whole + b"--b0-x--\r\n"


def named(name, quoted=True):
    return b"Content-Disposition: form-data; name=" + (b'"%s"' % name if quoted else name)


FIELDS = (
    (FILE, b'RIFF\r\n\r\nname="model"\r\n\r\nno\r\n'),
    (named(b"model"), b"llama"),
    (named(b"language"), b"en"),
    (named(b"response_format"), b"json"),
)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_model_is_found_wherever_it_stands(order):
    assert model_in(form(*(FIELDS[place] for place in order)), KIND) == "llama"


@pytest.mark.parametrize(
    "head",
    [
        named(b"model", quoted=False), named(b"model") + b"\r\nContent-Type: text/plain",
        b"content-disposition: form-data;name=\"model\"",
        b"Content-Type: text/plain\r\nContent-Disposition: form-data; name=model; x=y",
    ],
)  # fmt: skip
def test_it_may_be_written_in_several_ways(head):
    assert model_in(form((head, b"llama")), KIND) == "llama"
    assert model_in(form((head, b"llama")), 'Multipart/Form-Data; Boundary="b0-x"') == "llama"


@pytest.mark.parametrize("name", [b"models", b"my-model", b"file"])
def test_other_fields_are_not_it(name):
    assert model_in(form((named(name), b"llama")), KIND) == ""


def test_what_is_no_form_that_can_be_read():
    with pytest.raises(MalformedRequestError, match="boundary"):
        model_in(b"", "multipart/form-data")
    with pytest.raises(MalformedRequestError, match="parts"):
        model_in(b"--b0-x" * 1000, KIND)
    with pytest.raises(MalformedRequestError, match="UTF-8"):
        model_in(form((named(b"model"), b"\xff")), KIND)
    assert model_in(b"", KIND) == ""


def test_what_repeats_the_name_a_thousand_times_takes_no_longer():
    """Each part is looked at once, and of it its head alone."""
    hostile = form((FILE, b'name="model"\r\n' * 100_000))
    assert model_in(hostile, KIND) == ""


@given(st.binary(max_size=300))
def test_bytes_are_a_form_or_an_error(body):
    for whole in (body, b"--b0-x\r\n" + body):
        try:
            assert isinstance(model_in(whole, KIND), str)
        except MalformedRequestError as error:
            assert str(error)


def test_forms_are_told_by_their_content_type():
    assert is_form(KIND) and is_form("Multipart/Form-Data; boundary=x")
    assert not is_form("application/json") and not is_form("")

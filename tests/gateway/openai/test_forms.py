"""The model that a form names."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import MalformedRequestError
from router.gateway.openai.forms import is_form, model_in, with_model

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


def test_another_model_is_named_and_the_rest_stays():
    for order in itertools.permutations(range(4)):
        changed = with_model(form(*(FIELDS[place] for place in order)), KIND, "llama-large")
        other = tuple(FIELDS[place] for place in order)
        wanted = tuple(
            (head, b"llama-large" if value == b"llama" else value) for head, value in other
        )
        assert changed == form(*wanted)


@pytest.mark.parametrize("name", [b"models", b"my-model", b"file"])
def test_other_fields_are_not_it(name):
    assert model_in(form((named(name), b"llama")), KIND) == ""


def test_what_is_no_form_that_can_be_read():
    with pytest.raises(MalformedRequestError, match="boundary"):
        model_in(b"", "multipart/form-data")
    with pytest.raises(MalformedRequestError, match="parts"):
        model_in(form(*[(named(b"a"), b"")] * 1000), KIND)
    with pytest.raises(MalformedRequestError, match="UTF-8"):
        model_in(form((named(b"model"), b"\xff")), KIND)
    assert model_in(b"", KIND) == ""


def test_what_repeats_the_name_a_thousand_times_takes_no_longer():
    """Each part is looked at once, and of it its head alone."""
    hostile = form((FILE, b'name="model"\r\n' * 100_000))
    assert model_in(hostile, KIND) == ""


MODEL = (named(b"model"), b"llama")
OTHER = (named(b"model"), b"other")


@pytest.mark.parametrize(
    "body",
    [
        # Some servers take the first, some the last.
        form(MODEL, OTHER),
        form(MODEL, (named(b"Model"), b"other")),
        # A name that one of them sees there and another does not.
        form((named(b"model") + b"\r\nX-Pad: " + b"a" * 4000, b"other"), MODEL),
        form((b'Content-Disposition: form-data; name="mo\\del"', b"other"), MODEL),
        form((b'Content-Disposition: form-data; name="mo%64el"', b"other"), MODEL),
        form((b"Content-Disposition: form-data; name*=utf-8''model", b"other"), MODEL),
        form((b'Content-Disposition: form-data; name="a"; name="model"', b"llama"), OTHER),
        form((b'Content-Disposition: form-data; name="a"; x="\\"; name="model"; y="', b"llama")),
        form((b'Content-Disposition: form-data; name="a";\r\n name="model"', b"llama")),
        form((named(b"a") + b"\r\n" + named(b"model"), b"llama")),
        form((b"Content-Type: text/plain", b"llama"), MODEL),
        form((named(b"model") + b"\r\nContent-Transfer-Encoding: base64", b"bGxhbWE=")),
        # A part that one of them sees there and another does not.
        b"x" + form(MODEL),
        b"x--b0-x\r\n" + MODEL[0] + b"\r\n\r\nllama\r\n" + form(OTHER),
        form(OTHER) + form(MODEL),
        form(OTHER) + b"\r\n\r\n" + form(MODEL),
        form((named(b"a"), b'b\r\n--b0-xY; name="model"\r\n\r\nllama'), OTHER),
        form(MODEL).replace(b"\r\n", b"\n"),
        form(MODEL)[:-10],
    ],
)
def test_what_servers_might_read_in_two_ways_is_refused(body):
    with pytest.raises(MalformedRequestError):
        model_in(body, KIND)


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data; xboundary=b0-x", "multipart/form-data; boundary=b0-x; boundary=b",
        "multipart/form-data; boundary*=utf-8''b0-x", 'multipart/form-data; boundary="b0\\-x"',
        "multipart/form-data, multipart/form-data; boundary=b0-x",
        "multipart/form-data; boundary=b0-x; charset=utf-7",
    ],
)  # fmt: skip
def test_a_boundary_that_is_not_plain_is_none(kind):
    with pytest.raises(MalformedRequestError):
        model_in(form(MODEL), kind)


@pytest.mark.parametrize(
    "head",
    [
        FILE.replace(b"a.wav", b"C:\\a; name=model.wav"),
        FILE + b"\r\nContent-Length: 4",
        FILE.replace(b"; filename", b"; filename*=UTF-8''%C3%A4.wav; filename"),
        named(b"timestamp_granularities[]"),
    ],
)
def test_what_clients_write_is_read(head):
    asked = "multipart/form-data; charset=utf-8; boundary=b0-x"
    assert model_in(form((head, b"a"), MODEL), asked) == "llama"
    # What another field says is no name, and what lies within a part is nobody's.
    elsewhere = named(b"x") + b'\r\nX-Y: z; name="model"'
    assert model_in(form((elsewhere, b"no"), MODEL), KIND) == "llama"
    inner = b'\r\n--b0 ; name="model"\r\n\r\nno'
    assert model_in(form((head, inner), MODEL)[:-2], KIND) == "llama"


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

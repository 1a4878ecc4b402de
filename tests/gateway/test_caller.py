"""Routing headers: what is read, what is refused, and by which name."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import InvalidMetadataError, ResidencyError
from router.gateway.caller import Caller, RoutingFields, plain_request_id
from router.model import UNLIMITED, Budget, Request
from tests.examples import examples

FIELDS = RoutingFields("llama", "2", "id-1", "seq", False, False, 12.0, 34.0)


def request(*metadata, remaining_s=None, margin_ms=5.0):
    return Caller(metadata).request(FIELDS, 100, remaining_s, margin_ms)


def test_without_headers_everything_is_open():
    assert request() == Request(
        model="llama",
        version="2",
        request_id="id-1",
        sequence_id="seq",
        input_tokens=12.0,
        max_output_tokens=34.0,
        payload_bytes=100,
    )
    assert not request().budget.explicit


def test_every_header_is_read():
    made = request(
        ("user-agent", "x"),
        ("x-latency-budget-ms", "2000"),
        ("x-ttft-budget-ms", " 250.5 "),
        ("x-tpot-budget-ms", "2e1"),
        ("x-origin", "eu-west"),
        ("x-residency", "EU, ch,"),
        ("x-tenant", "Team 7"),
    )
    assert made.budget == Budget(250.5, 20.0, 2000.0, True)
    assert (made.origin, made.tenant) == ("eu-west", "Team 7")
    assert made.residency == frozenset(("eu", "ch"))


@pytest.mark.parametrize(
    "text",
    [
        "7",
        "01JD-x",
        "3f2b8c1e-9d7a-4c55-8f02-6f1f1a2b3c4d",
        "urn:x:1/2",
        "dGVzdA==",
        "a@b~+",
        "x" * 128,
    ],
)
def test_an_id_of_plain_characters_names_a_request(text):
    assert plain_request_id(text) == text


@settings(max_examples=examples(40))
@given(st.text())
def test_no_other_id_names_one(text):
    named = plain_request_id(text)
    assert named in ("", text)
    assert named.isascii() and all(one.isalnum() or one in "._:/+=@~-" for one in named)
    assert len(named) <= 128


@pytest.mark.parametrize("text", ["a b", "a\nb", "a\n", '"', "\x1b[31m", "ü", "\u202e1", "x" * 129])
def test_an_id_that_is_none_is_left_out_and_the_request_passes(text):
    made = Caller(()).request(FIELDS._replace(request_id=text), 100, None, 0.0)
    assert (made.request_id, made.model) == ("", "llama")


@pytest.mark.parametrize(
    ("headers", "remaining_s", "e2e_ms", "explicit"),
    [
        ((), None, UNLIMITED, False),
        ((), 1.0, 995.0, True),
        ((("x-latency-budget-ms", "300"),), 1.0, 300.0, True),
        ((("x-latency-budget-ms", "3000"),), 1.0, 995.0, True),
        ((("x-ttft-budget-ms", "300"),), None, UNLIMITED, True),
        ((), 0.001, 0.0, True),
    ],
)
def test_the_deadline_is_a_budget(headers, remaining_s, e2e_ms, explicit):
    budget = request(*headers, remaining_s=remaining_s).budget
    assert budget.e2e_ms == pytest.approx(e2e_ms)
    assert budget.explicit is explicit


@pytest.mark.parametrize("key", ["x-latency-budget-ms", "x-ttft-budget-ms", "x-tpot-budget-ms"])
@pytest.mark.parametrize(
    "value",
    [
        *("", "0", "-1", "nan", "inf", "-inf", "3600001", "1e400", "ten", "1_000", "0x10"),
        *("1,5", "1" * 33, "٣", "5\n", b"\x01", "5 5"),
    ],
)
def test_unusable_budgets_are_refused_by_name(key, value):
    with pytest.raises(InvalidMetadataError, match=key):
        request((key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("x-origin", "a" * 129),
        ("x-origin", "zürich"),
        ("x-origin", "a\x00b"),
        ("x-tenant", b"bytes"),
        ("x-tenant", "a\tb"),
        ("x-residency", ""),
        ("x-residency", " , "),
        ("x-residency", "e" * 513),
        ("x-residency", "ëu"),
    ],
)
def test_unusable_names_are_refused_by_name(key, value):
    with pytest.raises(InvalidMetadataError, match=key):
        request((key, value))


def test_contradictory_duplicates_are_refused_and_equal_ones_are_not():
    assert request(("x-origin", "a"), ("x-origin", "a")).origin == "a"
    with pytest.raises(InvalidMetadataError, match="x-origin: given twice"):
        request(("x-origin", "a"), ("x-origin", "b"))


LISTS = st.lists(
    st.frozensets(st.sampled_from(["eu", "us", "ch", "mars"]), min_size=1), min_size=1, max_size=4
)


@given(LISTS)
def test_residency_given_twice_is_what_every_list_names_and_never_more(lists):
    headers = [("x-residency", ",".join(sorted(names))) for names in lists]
    expected = frozenset.intersection(*lists)
    if expected:
        assert request(*headers).residency == expected
        return
    with pytest.raises(ResidencyError, match="none is in all"):
        request(*headers)


def test_of_two_budgets_the_smaller_counts():
    assert request(("x-ttft-budget-ms", "5"), ("x-ttft-budget-ms", "9")).budget.ttft_ms == 5.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "x-latency-budget-ms",
                    "x-ttft-budget-ms",
                    "x-origin",
                    "x-residency",
                    "other",
                    "x-residencies",
                ]
            ),
            st.one_of(st.text(max_size=40), st.binary(max_size=10), st.floats().map(str)),
        ),
        max_size=4,
    ),
    st.one_of(st.none(), st.floats(0.0, 1e6)),
)
def test_any_metadata_gives_a_usable_request_or_one_error(metadata, remaining_s):
    try:
        made = request(*metadata, remaining_s=remaining_s)
    except (InvalidMetadataError, ResidencyError) as error:
        assert str(error).isascii()
        return
    assert made.budget.e2e_ms >= 0.0
    assert made.budget.ttft_ms > 0.0
    assert not math.isnan(made.budget.e2e_ms + made.budget.ttft_ms)
    assert made.origin.isascii()


@pytest.mark.parametrize("session", ["s-1", "x" * 5000, b"\xff"])
def test_a_session_is_taken_as_it_is(session):
    """Others read it, too: no value of it is refused."""
    assert Caller([("x-session-id", session)]).session == str(session)
    assert Caller([]).session == ""


@pytest.mark.parametrize("key", ["x-sessionid", "x-session", "session-id", "x-sessions-id"])
def test_no_name_near_a_session_is_refused(key):
    assert Caller([(key, "s-1")]).session == ""


@pytest.mark.parametrize("name", ["x-stainless-retry-count", "grpc-previous-rpc-attempts"])
def test_what_a_client_asks_again_says_so(name):
    def asked(*values):
        caller = Caller(tuple((name, value) for value in values))
        return caller.request(RoutingFields("llama", "", ""), 0, None, 0.0).client_retries

    assert [asked(), asked("0"), asked("2"), asked("1", "3"), asked("x")] == [0, 0, 2, 3, 0]


@pytest.mark.parametrize(("said", "form"), [("full", "full"), (" Compact", "compact")])
def test_how_a_receipt_is_told_is_the_callers_to_say(said, form):
    assert Caller((("x-carbon-receipt", said),)).receipt == form
    assert Caller(()).receipt == ""


@pytest.mark.parametrize("values", [("all",), ("",), (b"full",), ("full", "compact")])
def test_no_other_form_and_no_two(values):
    with pytest.raises(InvalidMetadataError, match="x-carbon-receipt"):
        Caller(tuple(("x-carbon-receipt", value) for value in values))


@pytest.mark.parametrize("said", ["0", "-1", "nan", "inf", "soon", "1_0"])
def test_a_deadline_is_a_number_of_seconds(said):
    with pytest.raises(InvalidMetadataError, match="x-deadline-s"):
        Caller([("x-deadline-s", said)])
    assert Caller([("x-deadline-s", "60"), ("x-deadline-s", "30")]).deadline_s == 30.0
    assert Caller([]).deadline_s == math.inf

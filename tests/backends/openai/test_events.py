"""Events of a stream: whole ones pass as they came, wherever the network cuts them."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import http_api
from router.backends.openai.events import Events
from router.errors import UpstreamFaultError
from router.http_api import END, ENERGY, LAST_USAGE
from router.http_api import USAGE as STATED
from tests.backends.openai import samples as s

MOST_BYTES = 1000
# API, what comes, what passes, what is told of it at the end.
CASES = {
    "chat": (
        http_api.CHAT, s.CHAT, s.SAID,
        [
            (STATED, s.USAGE_ALONE), (ENERGY, s.ENERGY), (LAST_USAGE, s.USAGE_ALONE),
            (END, s.DONE),
        ],
    ),
    "completions": (http_api.COMPLETIONS, [*s.SAID, s.DONE], s.SAID, [(END, s.DONE)]),
    "messages": (
        http_api.MESSAGES, s.MESSAGES, s.MESSAGES[:-2],
        [(STATED, s.START), (STATED, s.DELTA), (LAST_USAGE, s.DELTA), (END, s.STOP)],
    ),
    "responses": (
        http_api.RESPONSES, s.RESPONSES, s.RESPONSES[:-1],
        [(STATED, s.COMPLETED), (END, s.COMPLETED)],
    ),
    "other": (http_api.OTHER, [*s.SAID, s.DONE], [*s.SAID, s.DONE], []),
}  # fmt: skip


def run(api, pieces, most_bytes=1 << 20):
    """What passes, and the events after all ``pieces`` came."""
    events = Events(api, most_bytes)
    passed = []
    for piece in pieces:
        passed.append(events.feed(piece))
        if events.ended:
            break
    else:
        passed.append(events.finish())
    return b"".join(passed), events


def crlf(told):
    return [(key, value if key == ENERGY else value.replace(b"\n", b"\r\n")) for key, value in told]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_a_cut_at_any_byte_changes_nothing(case: str, ending: bytes) -> None:
    api, came, passes, told = CASES[case]
    whole = b"".join(came).replace(b"\n", ending)
    passes = b"".join(passes).replace(b"\n", ending)
    told = told if ending == b"\n" else crlf(told)
    for cut in range(len(whole) + 1):
        passed, events = run(api, [whole[:cut], whole[cut:]])
        assert (passed, events.trailers()) == (passes, told)
        assert events.is_complete()
    singly = run(api, [whole[at : at + 1] for at in range(len(whole))])
    assert (singly[0], singly[1].trailers()) == (passes, told)


@pytest.mark.parametrize("case", CASES)
def test_lines_that_end_in_cr_alone_are_passed_on_as_ending_in_lf(case: str) -> None:
    api, came, passes, told = CASES[case]
    whole = b"".join(came).replace(b"\n", b"\r")
    for cut in range(len(whole) + 1):
        passed, events = run(api, [whole[:cut], whole[cut:]])
        assert (passed, events.trailers()) == (b"".join(passes), told)
        assert events.is_complete()
    singly = run(api, [whole[at : at + 1] for at in range(len(whole))])
    assert (singly[0], singly[1].trailers()) == (b"".join(passes), told)


def test_an_event_whose_lines_end_in_cr_alone_passes_when_it_came_and_not_at_the_end() -> None:
    """What may be half a CRLF waits for the next byte, once."""
    events = Events(http_api.CHAT, MOST_BYTES)
    first, second = (said.replace(b"\n", b"\r") for said in s.SAID[:2])
    assert events.feed(first) == s.SAID[0]
    assert events.feed(second[:-1]) == b""
    assert events.feed(second[-1:]) == s.SAID[1]


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"other"}))
def test_what_ends_early_is_not_complete_wherever_it_does(case: str) -> None:
    api, came, _, _ = CASES[case]
    whole = b"".join(came)
    last = len(came[-1])
    for cut in range(len(whole) - last):
        _, events = run(api, [whole[:cut]])
        assert not events.ended
        # OpenAI's old servers end after a reason to finish.
        assert not events.is_complete() or b'"finish_reason":"stop"' in whole[:cut]


def test_an_old_server_may_leave_out_the_event_that_ends_a_stream() -> None:
    passed, events = run(http_api.CHAT, [*s.SAID, s.USAGE_ALONE])
    assert passed == b"".join([*s.SAID, s.USAGE_ALONE])
    assert events.is_complete()
    assert events.trailers() == [(STATED, s.USAGE_ALONE)]


def test_comments_after_the_last_token_do_not_make_a_stream_incomplete() -> None:
    _, events = run(http_api.CHAT, [*s.SAID, b": ping\n\n", b"\n", b": ping\n\n"])
    assert events.is_complete()


def test_events_of_responses_may_have_no_names_but_those_inside() -> None:
    names = ("response.created", "response.output_text.delta", "response.completed")
    nameless = [s.data({"type": name, "response": {"usage": s.USAGE}}) for name in names]
    passed, events = run(http_api.RESPONSES, nameless)
    assert (passed, events.is_complete()) == (b"".join(nameless[:-1]), True)
    assert dict(events.trailers())[END] == nameless[-1]


@pytest.mark.parametrize("left_out", [b"\n", b"\n\n"])
def test_the_last_event_may_lack_its_blank_line(left_out: bytes) -> None:
    passed, events = run(http_api.CHAT, [b"".join(s.CHAT).removesuffix(left_out)])
    assert (passed, events.is_complete()) == (b"".join(s.SAID), True)
    assert events.trailers()[-1] == (END, s.DONE)


def test_a_whole_read_passes_as_it_is_and_is_not_copied() -> None:
    events = Events(http_api.CHAT, MOST_BYTES)
    read = s.chunk("a") + s.chunk("b")
    assert events.feed(read) is read


def test_usage_that_is_not_the_last_event_passes_in_its_place() -> None:
    came = [s.chunk("a"), s.USAGE_ALONE, s.chunk("b"), s.USAGE_ALONE, s.DONE]
    passed, events = run(http_api.CHAT, came)
    assert passed == b"".join(came[:3])
    assert events.trailers() == [
        (STATED, s.USAGE_ALONE), (STATED, s.USAGE_ALONE), (LAST_USAGE, s.USAGE_ALONE),
        (END, s.DONE),
    ]  # fmt: skip


@pytest.mark.parametrize("between", [s.data({"type": "ping"}, "ping"), s.TEXT])
def test_totals_that_something_follows_pass_once(between: bytes) -> None:
    passed, events = run(http_api.MESSAGES, [s.START, s.DELTA, between, s.STOP])
    assert passed == s.START + s.DELTA + between
    assert LAST_USAGE not in dict(events.trailers())


def test_totals_that_nothing_follows_are_passed_on_at_the_end() -> None:
    passed, events = run(http_api.MESSAGES, [s.START, s.DELTA])
    assert (passed, events.is_complete()) == (s.START + s.DELTA, False)


def test_usage_that_the_caller_is_not_to_see_passes_nowhere() -> None:
    for end in (s.DONE, b""):
        events = Events(http_api.CHAT, MOST_BYTES, hides_usage=True)
        passed = events.feed(s.chunk("a") + s.USAGE_ALONE + s.chunk("b") + s.USAGE_ALONE + end)
        passed += events.finish()
        assert passed == s.chunk("a") + s.chunk("b")
        assert events.trailers()[:2] == [(STATED, s.USAGE_ALONE)] * 2


def test_usage_beside_choices_passes_and_the_first_and_the_latest_are_told() -> None:
    came = [s.chunk(text, usage={"completion_tokens": text}) for text in "abc"]
    passed, events = run(http_api.CHAT, [*came, s.DONE])
    assert passed == b"".join(came)
    assert events.trailers() == [(STATED, came[0]), (STATED, came[2]), (END, s.DONE)]


def test_energy_inside_an_event_is_taken_out_of_it() -> None:
    passed, events = run(http_api.CHAT, [b": energy {}\n" + s.chunk("a"), s.DONE])
    assert passed == s.chunk("a")
    assert events.trailers() == [(ENERGY, b"{}"), (END, s.DONE)]


def test_of_a_long_event_usage_alone_is_kept() -> None:
    long = s.data(
        {
            "response": {
                "output": "x" * 70_000,
                "usage": {"a": {"}": 1}, "output_tokens": 3},
                "b": 1,
            }
        },
        "response.completed",
    )
    _, events = run(http_api.RESPONSES, [long])
    assert events.trailers() == [
        (STATED, b'data: {"usage":{"a":{"}":1},"output_tokens":3}}\n\n'),
        (END, long),
    ]


def test_an_event_without_end_is_a_fault() -> None:
    events = Events(http_api.CHAT, MOST_BYTES)
    with pytest.raises(UpstreamFaultError):
        for _ in range(MOST_BYTES):
            events.feed(b"data: more")


@settings(max_examples=400)
@given(
    st.lists(
        st.one_of(st.sampled_from([*s.CHAT, b"\n", b"\r\n", b"data", b": energy "]), st.binary()),
        max_size=8,
    ),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_whatever_comes_its_cuts_change_nothing(parts: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(parts)
    at = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[a:b] for a, b in pairwise(at)]
    once, cut = run(http_api.CHAT, [whole]), run(http_api.CHAT, pieces)
    assert once[1].trailers() == cut[1].trailers()
    assert once[1].torn == cut[1].torn
    assert once[0] == cut[0]

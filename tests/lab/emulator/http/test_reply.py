from itertools import pairwise

import pytest

from router.lab.emulator.http.reply import AnswerText, event, timing_metrics
from router.lab.replay.replica import Ended

MARKER = "[emulated by a: 9 units of fast]"


@pytest.mark.parametrize("tokens", [1, 2, 6, 7, 8, 9, 50])
def test_pieces_make_up_the_text_whatever_their_size(tokens):
    text = AnswerText(MARKER, tokens)
    whole = text.between(0, tokens)
    assert whole.startswith(MARKER)
    for every in (1, 3, 7):
        edges = [*range(0, tokens, every), tokens]
        pieces = [text.between(*edge) for edge in pairwise(edges)]
        assert "".join(pieces) == whole and all(pieces)


def test_a_long_answer_has_four_bytes_a_token():
    assert len(AnswerText(MARKER, 1_000).between(500, 600)) == 400


def test_an_event_is_one_line_of_data():
    assert event({"a": "b\nc"}, "x.y") == b'event: x.y\ndata: {"a":"b\\nc"}\n\n'
    assert event({}) == b"data: {}\n\n"


def test_where_the_time_went_is_told_as_vllm_tells_it():
    record = Ended("r", 3.0, True, 1.0, 1.5, 2.0, 30.0, 11.0, 1.0, 0.5, 0.5, 1)
    assert timing_metrics(record) == {
        "queue_time_ms": 500.0,
        "time_to_first_token_ms": 500.0,
        "generation_time_ms": 1000.0,
        "mean_itl_ms": 100.0,
        "tokens_per_second": pytest.approx(11.0 / 1.5),
    }
    assert "mean_itl_ms" not in timing_metrics(record._replace(output_tokens=1.0))

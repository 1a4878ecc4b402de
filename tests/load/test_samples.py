import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.load.samples import SampleScan

PAGE = b"""# HELP wanted_total what it counts.
# TYPE wanted_total counter
wanted_total{a="x, \\"y\\" = }",b="back\\\\slash\\nline"} 1.5e3
wanted_total 2 1700000000000
wanted_total_other 9
wanted_total{a="1"}4
wanted_total{a="1",} 5
wanted{c="}"} +Inf
"""


@pytest.mark.parametrize("piece", [1, 7, 64, 10_000])
def test_wanted_samples_are_read_with_their_labels(piece) -> None:
    scan = SampleScan(["wanted_total", "wanted"])
    for place in range(0, len(PAGE), piece):
        scan.take(PAGE[place : place + piece])
    assert scan.samples == [
        ("wanted_total", {"a": 'x, "y" = }', "b": "back\\slash\nline"}, 1500.0),
        ("wanted_total", {}, 2.0),
        ("wanted_total", {"a": "1"}, 4.0),
        ("wanted_total", {"a": "1"}, 5.0),
        ("wanted", {"c": "}"}, math.inf),
    ]
    assert not scan.is_cut_off


@pytest.mark.parametrize("line", [b"w much\n", b"w 1_000\n", b'w{a="b} 1\n', b"w {} {} 1\n"])
def test_what_is_malformed_is_no_number(line) -> None:
    scan = SampleScan(["w"])
    scan.take(line)
    assert [math.isnan(sample.value) for sample in scan.samples] == [True]


def test_labels_of_one_endless_word_are_none_and_take_no_time() -> None:
    scan = SampleScan(["w"])
    # By the square of its length, a quarter of an hour.
    for _ in range(100):
        scan.take(b"w{" + b"a" * 60_000 + b"} 1\n")
    assert scan.samples == [("w", {}, 1.0)] * 100


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_read_alike_in_any_pieces(body, piece) -> None:
    page = b"w" + body + b'\nw{a="b"} 1\n'
    whole, parts = SampleScan(["w"]), SampleScan(["w"])
    whole.take(page)
    for place in range(0, len(page), piece):
        parts.take(page[place : place + piece])
    assert repr(whole.samples) == repr(parts.samples)
    assert whole.samples[-1] == ("w", {"a": "b"}, 1.0)


def test_a_page_without_an_end_is_told_and_a_long_line_is_none() -> None:
    scan = SampleScan(["w"])
    scan.take(b"w 1\nw 2")
    assert scan.is_cut_off and len(scan.samples) == 1
    scan.take(b"x" * 200_000)
    scan.take(b"\nw 3\n")
    assert [sample.value for sample in scan.samples] == [1.0, 3.0]

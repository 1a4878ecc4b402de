"""The file of what was learned: whole or not at all, and anything may stand in it."""

import signal
import stat
import subprocess
import sys

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.core.evidence import Told
from router.core.learned import (
    BytesLearned,
    LatencyLearned,
    Learned,
    LengthsLearned,
    MarginsLearned,
    StartLearned,
)
from router.errors import DataError
from router.state.learned_file import FORMAT, LearnedFile, learned_path, learned_paths

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
STATES = st.lists(FLOATS, max_size=14).map(tuple)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
COUNTS = st.integers(-(2**63), 2**63 - 1)
LEARNED = st.builds(
    Learned,
    st.lists(st.builds(LatencyLearned, TEXTS, TEXTS, FLOATS, STATES, COUNTS, STATES, COUNTS)).map(
        tuple
    ),
    st.lists(st.builds(StartLearned, TEXTS, STATES, STATES)).map(tuple),
    st.lists(st.builds(LengthsLearned, TEXTS, st.none() | TEXTS, STATES, COUNTS)).map(tuple),
    st.lists(st.builds(BytesLearned, TEXTS, FLOATS, FLOATS, COUNTS)).map(tuple),
    st.lists(st.builds(BytesLearned, TEXTS, FLOATS, FLOATS, COUNTS)).map(tuple),
    margins=st.lists(
        st.builds(MarginsLearned, TEXTS, TEXTS, st.booleans(), FLOATS, STATES, COUNTS)
    ).map(tuple),
)
SOME = Learned(
    latency=(LatencyLearned("a", "k", 1.6, (0.0, 1.5), 300, (0.4, 0.01), 300),),
    lengths=(LengthsLearned("llama", None, (1.0, 2.0), 4), LengthsLearned("llama", "", (3.0,), 9)),
    answer_bytes=(BytesLearned("llama", 1.4, 0.3, 12),),
)
ALONE = Told(SOME, Learned())
again = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def at(folder):
    return LearnedFile(folder / "learned.json")


@again
@given(st.builds(Told, LEARNED, st.just(Learned()) | LEARNED))
def test_what_was_written_is_read(tmp_path, told):
    at(tmp_path).write(told)
    assert at(tmp_path).read() == told


def test_where_there_is_no_file_nothing_is_known(tmp_path):
    assert at(tmp_path).read() is None


def test_the_file_is_its_owners_alone_and_nothing_lies_beside_it(tmp_path):
    for _ in range(2):
        at(tmp_path).write(ALONE)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_is_cut_at_any_byte_is_refused(tmp_path):
    at(tmp_path).write(ALONE)
    file = tmp_path / "learned.json"
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(DataError):
            at(tmp_path).read()


@again
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path, body):
    (tmp_path / "learned.json").write_bytes(body)
    with pytest.raises(DataError):
        at(tmp_path).read()


@again
@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_a_file_that_is_damaged_anywhere_is_read_or_refused(tmp_path, place, damage):
    at(tmp_path).write(ALONE)
    file = tmp_path / "learned.json"
    body = bytearray(file.read_bytes())
    body[place : place + len(damage)] = damage
    file.write_bytes(bytes(body))
    try:
        found = at(tmp_path).read()
    except DataError:
        return
    assert isinstance(found.own, Learned)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b"[" * 100_000, b'{"a":' * 100_000,
        b'{"format":1,"learned":{"latency":[{"endpoint":"a"}]}}',
        b'{"format":1,"learned":{"lengths":[{"model":1}]}}',
        b'{"format":1,"learned":{},"taken_up":{"lengths":[{"model":1}]}}',
        b'{"format":1,"learned":{"answer_bytes":[{"model":"m","log_median":null,"sd":1.0,'
        b'"lessons":1}]}}',
        b'{"format":1e400,"learned":{}}', b'{"format":true,"learned":{}}', b'{"format":1}',
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(tmp_path, body):
    (tmp_path / "learned.json").write_bytes(body)
    with pytest.raises(DataError):
        at(tmp_path).read()


def test_another_format_is_refused(tmp_path):
    told = {"format": FORMAT + 1, "learned": Learned()}
    (tmp_path / "learned.json").write_bytes(msgspec.json.encode(told))
    with pytest.raises(DataError, match=f"format {FORMAT + 1}"):
        at(tmp_path).read()


_WRITES = """
import sys
from pathlib import Path
from router.core.evidence import Told
from router.core.learned import Learned, LengthsLearned
from router.state.learned_file import LearnedFile
file = LearnedFile(Path(sys.argv[1]))
kept = tuple(LengthsLearned("llama", f"t{n}", (1.5,) * 5, 1) for n in range(4096))
while True:
    file.write(Told(Learned(lengths=kept), Learned()))
    print("written", flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path):
    path = tmp_path / "learned.json"
    for rounds in range(1, 6):
        command = [sys.executable, "-c", _WRITES, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            for _ in range(rounds):
                writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
        found = LearnedFile(path).read()
        assert len(found.own.lengths) == 4096


def test_each_worker_has_a_file_and_others_beside_them_are_none_of_theirs(tmp_path):
    path = tmp_path / "learned[1].json"
    for name in ("", ".2", ".17", ".1", ".02", ".profiles", ".budget.3", ".3.aside"):
        path.with_name(path.name + name).write_bytes(b"")
    assert learned_paths(path) == {n: learned_path(path, n) for n in (1, 2, 17)}
    assert learned_paths(tmp_path / "gone" / "it") == {1: tmp_path / "gone" / "it"}

"""The file of what budgets have spent: whole or not at all, and anything may stand in it."""

import contextlib
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import DataError
from router.state.spent_file import SpentFile, SpentToday

AMOUNTS = st.integers(0, 2**62)
SPENT = st.builds(
    SpentToday,
    st.integers(-(2**40), 2**40),
    st.dictionaries(st.text(max_size=20), st.tuples(AMOUNTS, AMOUNTS, AMOUNTS), max_size=5),
    st.integers(1, 1000),
)
again = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def at(folder):
    return SpentFile(folder / "state.json.budget")


@again
@given(SPENT)
def test_what_was_written_is_read(tmp_path, spent):
    at(tmp_path).write(spent)
    assert at(tmp_path).read() == spent


def test_where_there_is_no_file_nothing_is_known(tmp_path):
    assert at(tmp_path).read() is None
    at(tmp_path).remove()


def test_it_names_tenants_so_it_is_its_owners_alone(tmp_path):
    at(tmp_path).write(SpentToday(1))
    path = tmp_path / "state.json.budget"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"format":2,"spent":{"day":1}}', b'{"format":1,"spent":[]}',
        b'{"format":1,"spent":{"day":1,"accounts":{"a":[-1,0,0]}}}',
        b'{"format":1,"spent":{"day":1,"accounts":{"a":[1]}}}',
        b'{"format":1,"spent":{"day":1.5}}', b'{"format":1,"spent":{"day":1,"gateways":0}}',
        b'{"format":1,"spent":{"day":1,"accounts":{"a":[99999999999999999999,0,0]}}}', b"\xff\xfe",
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_told(tmp_path, body):
    (tmp_path / "state.json.budget").write_bytes(body)
    with pytest.raises(DataError):
        at(tmp_path).read()


@again
@given(st.binary(max_size=200))
def test_whatever_stands_in_it_is_read_or_refused(tmp_path, body):
    (tmp_path / "state.json.budget").write_bytes(body)
    with contextlib.suppress(DataError):
        at(tmp_path).read()

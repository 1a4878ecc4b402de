"""What is under way on one connection, from what the kernel and gRPC say."""

from hypothesis import given
from hypothesis import strategies as st

from router.gateway.oip.connection import Connection


class Reader:
    def __init__(self):
        self.is_cut = False

    def cut(self):
        self.is_cut = True


def receiving(unread_bytes, readers):
    connection = Connection("p")
    connection.reading = {reader: None for reader in readers}
    connection.measure(7)
    connection.measure(7 + unread_bytes)
    return connection


def test_the_youngest_go_first_and_no_more_than_needed():
    readers = [Reader() for _ in range(4)]
    assert receiving(400, readers).cut(150) == 200
    assert [reader.is_cut for reader in readers] == [False, False, True, True]


def test_what_was_cut_already_is_not_cut_again():
    readers = [Reader() for _ in range(2)]
    connection = receiving(400, readers)
    assert connection.cut(1) == 200
    assert connection.cut(1) == 400
    assert all(reader.is_cut for reader in readers)


def test_nothing_is_cut_where_nothing_came_in():
    readers = [Reader()]
    assert receiving(0, readers).cut(1000) == 0
    assert not readers[0].is_cut


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=20))
def test_what_is_unread_is_what_was_received_less_what_was_delivered(steps):
    connection, received = Connection("p"), 5_000
    connection.reading = {object(): None, object(): None}
    connection.measure(received)
    expected = 0
    for more, delivered in steps:
        received += more
        call = object()
        connection.reading[call] = None
        connection.stop_reading(call, delivered + 1)
        expected = max(0, expected + more - delivered - 1)
        connection.measure(received)
        assert connection.unread_bytes == expected

"""A refusal keeps nothing of the request that it refuses."""

import weakref

from router.gateway.failures import let_go


class Message:
    """Something large that can be watched."""


def refused_with(kept):
    message = Message()
    kept.append(weakref.ref(message))
    raise ValueError("refused")


def refused_in_turn(kept):
    message = Message()
    kept.append(weakref.ref(message))
    try:
        refused_with(kept)
    except ValueError as error:
        raise KeyError("told otherwise") from error


def test_what_an_error_came_through_is_let_go_of_also_in_its_causes():
    kept = []
    try:
        refused_in_turn(kept)
    except KeyError as error:
        assert all(message() is not None for message in kept)
        let_go(error)
        assert [message() for message in kept] == [None, None]

"""Every error travels whole from a child process to its parent."""

import pickle

import pytest

from router import errors
from router.errors import (
    CallBudgetError,
    CarbonRouterError,
    ConfigError,
    ProviderBusyError,
    UpstreamUnreachedError,
)

ARGUMENTS = {
    ConfigError: (("a.yaml", [("server.listen", "taken")]), {}),
    ProviderBusyError: (("busy", 3.0), {}),
    CallBudgetError: (("spent", 3.0), {}),
    UpstreamUnreachedError: (("gone",), {"refused": True}),
}


def leaves(kind=CarbonRouterError):
    yield kind
    for below in kind.__subclasses__():
        if below.__module__.startswith(f"{errors.__name__}."):
            yield from leaves(below)


@pytest.mark.parametrize("kind", list(leaves()), ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_after_the_journey(kind):
    blaming = issubclass(kind, errors.UpstreamBlamingError)
    arguments, named = ARGUMENTS.get(kind, (("why",), {"status": "X"} if blaming else {}))
    error = kind(*arguments, **named)
    error.__cause__ = ValueError("left behind")
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is kind
    assert (str(arrived), vars(arrived), arrived.reason) == (str(error), vars(error), error.reason)

"""What every error of the product is, and which span of a trace told of it."""

from __future__ import annotations

from typing import Any, Final


class CarbonRouterError(Exception):
    """Root of the tree. ``str(error)`` is safe to show to a caller: no payload, no secret."""

    reason: str = "internal"

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception's own way calls the class with the message alone; a child process's error
        # that its parent cannot build takes the whole pool down.
        return _restored, (type(self), self.args, self.__dict__)


_SPAN: Final = "told_span"


def tell_span(error: BaseException, trace_id: str, span_id: str) -> None:
    """Note on ``error`` that a trace has told of it, and as which span; "" where none is kept."""
    error.__dict__[_SPAN] = (trace_id, span_id)


def span_of(error: BaseException) -> tuple[str, str] | None:
    """Trace and span that told of ``error``; None where no trace has."""
    found: tuple[str, str] | None = error.__dict__.get(_SPAN)
    return found


def _restored(
    kind: type[CarbonRouterError], args: tuple[Any, ...], state: dict[str, Any]
) -> CarbonRouterError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error

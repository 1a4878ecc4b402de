"""A span as it is handed to whoever sends it: finished, and nothing but plain values."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

Attribute: TypeAlias = "str | bool | int | float | tuple[str, ...]"
Attributes: TypeAlias = dict[str, Attribute]


class Span(NamedTuple):
    """``parent_id``: 0 of a root; ``parent_is_remote``: it is of another process. ``is_server``: it
    is of a request, else of an attempt, which calls another server. ``failed``: what it tells of
    ended badly, and not by its caller's doing. Times in ns of the Unix epoch."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int
    parent_is_remote: bool
    flags: int
    state: str
    is_server: bool
    started_ns: int
    ended_ns: int
    failed: bool
    attributes: Attributes

"""The file that the gateway and Envoy share, as ctypes sees it: the same as source/shared.h, which
a test compares field by field.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Final

from router.core.energy import RunCoefficients

MAGIC: Final = 0x3252434E4F425243
MAX_RUNGS: Final = 4
MAX_GREENS: Final = 2
MAX_NAME: Final = 128
MAX_TAIL: Final = 1024
MAX_REPORT: Final = 512
MAX_RESIDENCY: Final = 512
# Of a request of no model that is known.
NO_MODEL: Final = 2**32 - 1
# Of `RequestRecord.kind`.
DEPARTED, ENDED, REFUSED = 1, 2, 3
# Of `EndpointCells.is_http` and `TableHead.hosts`, by their places here.
PROTOCOLS: Final = ("oip", "openai")
# Of the ``kinds`` of a model, by their places here: how joules of candidates are known.
ENERGY_KINDS: Final = ("calibrated", "profile", "estimated", "emulated")
# Of `RegionCells.intensity`, in this order.
INTENSITY_KEYS: Final = ("g_per_kwh", "interval", "basis", "factors", "kind", "source")

# Of `QuestionCells` and `FoundCells`: all at once in a tenth of the time that field by field takes.
_QUESTION: Final = struct.Struct("=q7dq2d")
_FOUND: Final = struct.Struct("=q8dq4d")

_u32, _u64, _i64, _f8 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int64, ctypes.c_double


class Text(ctypes.Structure):
    """Bytes of the table that it is in."""

    _fields_ = (("at", _u32), ("length", _u32))


class FileHead(ctypes.Structure):
    """Of the whole file."""

    _fields_ = (
        *((name, _u64) for name in (
            "magic", "records", "record_bytes", "records_at", "seats", "seats_at", "slot_bytes",
        )),
        ("slots_at", _u64 * 2),
        *((name, _u64) for name in (
            "newest", "head", "decided", "taken", "used",
            "sights", "sight_bytes", "sights_at", "sight_head",
        )),
    )  # fmt: skip


class SeatCount(ctypes.Structure):
    """Envoy's own requests on one endpoint."""

    _fields_ = (("in_flight", _i64), ("turns", _i64), ("unused", _u64 * 6))


class Named(ctypes.Structure):
    """A value by name: a row, a mask."""

    _fields_ = (("name", Text), ("value", _i64))


class RegionCells(ctypes.Structure):
    """A region, and its grid as receipts tell of it."""

    _fields_ = (
        ("name", Text), ("grid_zone", Text), ("flags", Text), ("intensity", Text * 6),
        ("shown_g", Text), ("pue", _f8), ("g_per_kwh", _f8), ("observed_at", _f8),
    )  # fmt: skip


class EndpointCells(ctypes.Structure):
    """The endpoint of a seat, nameless where there is none. ``on_trial``: it takes one request at a
    time."""

    _fields_ = (
        ("name", Text), ("address", Text),
        *((name, _u32) for name in ("region", "on_trial", "is_http", "unused")),
    )  # fmt: skip


class BudgetCells(ctypes.Structure):
    """A carbon budget. ``account``: row of the fleet's, -1 where it is per tenant or model."""

    _fields_ = (
        ("name", Text), ("action", _u32), ("is_shadow", _u32), ("account", _i64), ("limit_g", _f8),
    )  # fmt: skip


class RunCells(ctypes.Structure):
    """What a request takes on one candidate: as `router.core.energy.RunCoefficients`, and the
    cached tokens of those that are there."""

    _fields_ = tuple((name, _f8) for name in (*RunCoefficients._fields, "cached_tokens"))


class ModelCells(ctypes.Structure):
    """A model in a version, and where its columns are. ``is_passed``: the gateway's own process
    decides of it."""

    _fields_ = (
        ("name", Text), ("version", Text),
        *((name, _u32) for name in ("is_http", "is_task", "is_passed", "unused")),
        *((name, _i64) for name in ("n", "rows", "regions")),
        *((f"{name}_at", _u64) for name in (
            "table", "live", "labels", "starts", "seats", "task_j", "runs", "kinds", "accounts",
            "others", "awake", "eligible", "known", "allotted", "caps",
        )),
        *((name, _f8) for name in (
            "input_tokens", "output_tokens", "output_tokens_quantile", "longest",
            "bytes_per_token", "template_tokens",
        )),
    )  # fmt: skip


class TableHead(ctypes.Structure):
    """Of one table. ``begun``, ``done``: its number, the same in one that is whole."""

    _fields_ = (
        *((name, _u64) for name in ("begun", "done", "bytes", "generation", "rows")),
        ("hosts", _u64 * 2), ("snapshot", _u64),
        *((name, _f8) for name in (
            "since_s", "seen_share", "written_s", "now", "speed", "hour_ends_at", "j_per_byte",
            "margin_ms", "max_budget_ms", "retry_s",
        )),
        *((name, _i64) for name in ("residency", "unlisted", "default_origin")),
        *((f"{name}{at}", _u64) for name in (
            "models", "origins", "places", "tenants", "regions", "endpoints", "rungs",
        ) for at in ("", "_at")),
        ("attempts", _u64), ("full_receipts", _u64),
        *((name, _u64) for name in (
            "budgets", "budgets_at", "greens", "greens_at", "energy", "energy_at",
        )),
        ("day_ends_s", _f8),
        ("identity", Text), ("policy", Text), ("relaxed", Text * MAX_RUNGS),
        ("green_relaxed", Text * MAX_GREENS),
    )  # fmt: skip


class SightHead(ctypes.Structure):
    """Of one sight, before its live columns."""

    _fields_ = (("stamp", _u64), ("n", _u64), ("residency", ctypes.c_char * MAX_RESIDENCY))


class QuestionCells(ctypes.Structure):
    """As `router.core.question.Question.scalars`."""

    _fields_ = (
        ("rtt_row", _i64), ("figures", _f8 * 7), ("residency", _i64), ("times", _f8 * 2),
    )  # fmt: skip

    def scalars(self) -> tuple[float, ...]:
        """In the kernel's order."""
        return _QUESTION.unpack_from(self)


class FoundCells(ctypes.Structure):
    """As `router.core.kernel.choose` returns it."""

    _fields_ = (
        ("row", _i64), ("before", _f8 * 8), ("first_row", _i64), ("after", _f8 * 4),
    )  # fmt: skip

    def values(self) -> tuple[float, ...]:
        """In the kernel's order."""
        return _FOUND.unpack_from(self)


class RequestRecord(ctypes.Structure):
    """What became of a request."""

    _fields_ = (
        ("stamp", _u64),
        *((name, _u32) for name in ("kind", "model", "rung", "reason")),
        *((name, _u64) for name in ("decision", "generation", "snapshot", "sight")),
        ("draw", _f8),
        *((name, _i64) for name in ("hour", "seat", "first_seat")),
        ("asked", QuestionCells), ("found", FoundCells),
        *((name, _f8) for name in (
            "started_s", "departed_s", "first_byte_s", "ended_s",
            "input_tokens", "max_output_tokens", "prompt_bytes", "payload_bytes",
        )),
        ("status", ctypes.c_int32), ("grpc_status", ctypes.c_int32),
        *((name, _u32) for name in (
            "attempts", "is_http", "streams", "explicit_budget", "tail_length", "cut_short",
        )),
        ("use", _i64), ("reserved_tokens", _f8), ("ask_ug", _i64),
        *((name, _u32) for name in ("claimed", "exhausted", "is_greenest", "unused")),
        *((name, ctypes.c_char * MAX_NAME) for name in (
            "tenant", "origin", "request_id", "details",
        )),
        ("report", ctypes.c_char * MAX_REPORT),
        ("tail", ctypes.c_char * MAX_TAIL),
    )  # fmt: skip

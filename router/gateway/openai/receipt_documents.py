"""A whole receipt as a document: of an answer that is in memory, or of a row of the ledger.

Keys are those of docs/receipts.md without their prefix, numbers as such, and a few that nobody has
to be told on each answer. What is not known has no key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from router.gateway.receipts import ACCOUNTING, trailers
from router.model import Receipt

_PREFIX: Final = "x-carbon-"
# How the keys of figures end; an interval is two.
_FIGURES: Final = (
    "-j", "-ms", "-s", "-tokens", "-gco2e", "-per-kwh", "-attempts", "-requests",
    "-quality", "-floor",
)  # fmt: skip
# Of what others wrote: a time that a calendar has, the year 9999.
_NEVER_S: Final = 253_370_764_800.0
# Of a row's columns, the keys of documents where they are called otherwise.
_RENAMED: Final = {
    "attempt": "attempts",
    "ttft_ms": "actual_ttft_ms",
    "e2e_ms": "actual_e2e_ms",
    "g_per_kwh": "mean_g_per_kwh",
}
_COPIED: Final = (
    "decision_id", "outcome", "reason", "policy", "region", "grid_zone", "endpoint", "model",
    "version", "attempt", "run_s", "ttft_ms", "e2e_ms", "energy_j", "energy_kind",
    "marginal_energy_j", "prompt_energy_j", "pue", "network_j", "gco2e", "output_tokens",
    "tokens_kind", "input_tokens", "predicted_gco2e", "latency_first_gco2e", "g_per_kwh", "basis",
    "factors", "intensity_kind", "intensity_source",
)  # fmt: skip
_OF_ALIASES: Final = ("variant", "quality", "quality_floor")
_OF_WAITING: Final = (
    "waited_s", "at_once_region", "at_once_g_per_kwh", "at_once_kind", "at_once_basis",
    "at_once_gco2e",
)  # fmt: skip
# Of 32 bits: further digits say nothing.
_SINGLE: Final = frozenset((
    "run_s", "ttft_ms", "e2e_ms", "marginal_energy_j", "prompt_energy_j", "predicted_gco2e",
    "latency_first_gco2e", "quality", "quality_floor", "waited_s",
))  # fmt: skip


class SettledPrice(Protocol):
    """What a settlement says of a row; see `router.ledger.asking.settled.SettledFigures`."""

    @property
    def g_per_kwh(self) -> float: ...
    @property
    def low_g_per_kwh(self) -> float: ...
    @property
    def high_g_per_kwh(self) -> float: ...
    @property
    def gco2e(self) -> float | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def revision(self) -> int: ...
    @property
    def settled_at(self) -> float: ...


class KeptRow(Protocol):
    """A receipt of the ledger; see `router.ledger.asking.ledger.LedgerReceipt`."""

    @property
    def row(self) -> Mapping[str, Any]: ...
    @property
    def lost_gco2e(self) -> float: ...
    @property
    def settled(self) -> SettledPrice | None: ...
    @property
    def settled_unread(self) -> bool: ...


def receipt_document(receipt: Receipt) -> dict[str, Any]:
    """Of an answer."""
    told: dict[str, Any] = {
        key.removeprefix(_PREFIX).replace("-", "_"): _plain(key, value)
        for key, value in trailers(receipt)
    }
    told["model"] = receipt.request.model
    if 0.0 <= receipt.finished_at < _NEVER_S:
        told["finished_at"] = _stamp(datetime.fromtimestamp(receipt.finished_at, UTC))
    # What the grams are made of.
    for key, value in (
        ("pue", receipt.pue), ("network_j", receipt.network_j),
        ("mean_g_per_kwh", receipt.g_per_kwh),
    ):  # fmt: skip
        if math.isfinite(value):
            told[key] = float(f"{value:.6g}")
    return told


def ledger_document(kept: KeptRow) -> dict[str, Any]:
    """Of a row of the ledger, which says so; what it was settled at is in ``settled``, beside."""
    row = kept.row
    told: dict[str, Any] = {"kept_in": "ledger", ACCOUNTING[0].removeprefix(_PREFIX): ACCOUNTING[1]}
    for column in (*_COPIED, *_OF_ALIASES, *_OF_WAITING):
        # Ledgers that began before there were aliases, or batches, have no columns of them.
        value = row[column] if column in _COPIED else row.get(column)
        if value is not None:
            told[_RENAMED.get(column, column)] = _short(value) if column in _SINGLE else value
    if row.get("variant") is not None:
        told["alias"] = row["model"]
        told |= _other_variants(row.get("other_variants"))
    if row.get("at_once_gco2e") is not None and row["gco2e"] is not None:
        told["saved_by_waiting_gco2e"] = _short(row["at_once_gco2e"] - row["gco2e"])
    told["finished_at"] = _stamp(row["finished_at"])
    if row["energy_j"] is not None and row["pue"] is not None and row["network_j"] is not None:
        told["facility_energy_j"] = row["energy_j"] * row["pue"] + row["network_j"]
    if row["cached_tokens"]:
        told["cached_tokens"] = row["cached_tokens"]
        told["cached_kind"] = row["cached_kind"]
    told |= _intervals(row)
    if kept.lost_gco2e > 0.0:
        told["lost_attempts_gco2e"] = kept.lost_gco2e
    if row["intensity_observed_at"] is not None:
        age = row["finished_at"] - row["intensity_observed_at"]
        told["intensity_age_s"] = max(0, round(age.total_seconds()))
    if row["flags"] is not None:
        told["flags"] = row["flags"].replace(";", ",")
    if kept.settled is not None:
        told["settled"] = _settled(kept.settled)
    elif kept.settled_unread:
        told["settled_unread"] = True
    return told


def _other_variants(cell: str | None) -> dict[str, str]:
    """In the words of an answer's receipt."""
    if cell is None:
        return {}
    told = cell.replace(" quality=", ": quality=").replace(" gco2e=", ", gco2e=")
    return {"other_variants": told.replace(";", "; ")}


def _intervals(row: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key, low, high in (
        ("energy_j_interval", "energy_low_j", "energy_high_j"),
        ("output_tokens_interval", "tokens_low", "tokens_high"),
        ("mean_g_per_kwh_interval", "low_g_per_kwh", "high_g_per_kwh"),
    ):
        if row[low] is not None and row[high] is not None:
            found[key] = f"{row[low]:.6g}-{row[high]:.6g}"
    return found


def _settled(one: SettledPrice) -> dict[str, Any]:
    told: dict[str, Any] = {
        "g_per_kwh": one.g_per_kwh,
        "g_per_kwh_interval": f"{one.low_g_per_kwh:.6g}-{one.high_g_per_kwh:.6g}",
        "kind": str(one.kind),
        "source": one.source,
        "revision": one.revision,
        "settled_at": _stamp(datetime.fromtimestamp(one.settled_at, UTC)),
    }
    if one.gco2e is not None:
        told["gco2e"] = one.gco2e
    return told


def _plain(key: str, text: str) -> str | float:
    """A figure as a number; whatever a name looks like, it is none."""
    return float(text) if key.endswith(_FIGURES) else text


def _short(value: float) -> float:
    return float(f"{value:.7g}")


def _stamp(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"

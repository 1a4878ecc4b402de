"""Which request headers are ours, and which were meant to be.

A header that is nearly ours is refused, not ignored: a caller who wrote ``x-residencies`` believes
that the request stays where it may run. Ours are the names of `KNOWN`, what differs from one by a
slip of the pen, whatever speaks of residency or of a latency budget under another name, and the
whole of ``x-carbon-``, which but for ``x-carbon-receipt`` only answers carry. Everything else is
the caller's own and passes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from router.reserved_names import is_reserved

E2E_BUDGET: Final = "x-latency-budget-ms"
TTFT_BUDGET: Final = "x-ttft-budget-ms"
TPOT_BUDGET: Final = "x-tpot-budget-ms"
ORIGIN: Final = "x-origin"
RESIDENCY: Final = "x-residency"
TENANT: Final = "x-tenant"
# Until when an answer is wanted at the latest, from now on: it may wait before it begins.
DEADLINE: Final = "x-deadline-s"
QUALITY_FLOOR: Final = "x-quality-floor"
BUDGETS: Final = frozenset((E2E_BUDGET, TTFT_BUDGET, TPOT_BUDGET))
KNOWN: Final = BUDGETS | {ORIGIN, RESIDENCY, TENANT, DEADLINE, QUALITY_FLOOR}
# Of HTTP: whether answers state their energy.
ENERGY: Final = "x-energy-data"
# Of gRPC: whether the receipt comes whole, in keys of its own, or in one.
RECEIPT: Final = "x-carbon-receipt"
FULL: Final = "full"
COMPACT: Final = "compact"
# A hint that others use, too: no name near it is refused, and no value.
SESSION: Final = "x-session-id"
# How often a client asked before, as it says: SDKs of OpenAI and Anthropic, and gRPC (gRFC A6).
RETRIES: Final = frozenset(("x-stainless-retry-count", "grpc-previous-rpc-attempts"))

_ANSWERS: Final = "x-carbon-"
# Clients send few different headers, so few verdicts serve nearly every request.
_VERDICTS: Final = 1024
_MAX_KEY: Final = 64
_MAX_RETRIES_DIGITS: Final = 3
_SLIPS: Final = 2
# `x-origin`, `x-tenant`: two slips of so short a name are another word.
_SLIPS_OF_SHORT: Final = 1
_SHORT: Final = 8
# What somebody writes who means `ENERGY`, beside slips.
_ENERGY_NAMES: Final = frozenset(("x-energy", "energy-data"))
# And who means `QUALITY_FLOOR`.
_QUALITY_NAMES: Final = frozenset(
    ("x-quality", "x-min-quality", "x-minimum-quality", "x-quality-min", "quality-floor")
)
# English words two slips from `residency` that say nothing of where a request may run.
_PEOPLE: Final = frozenset(("resident", "residents", "president"))
_LATENCIES: Final = (
    (TTFT_BUDGET, "ttft"),
    (TPOT_BUDGET, "tpot"),
    (E2E_BUDGET, "latency"),
    (E2E_BUDGET, "e2e"),
)


def retries_of(value: str | bytes) -> int:
    """What one of `RETRIES` says; 0 for what is no such count."""
    if isinstance(value, bytes) or not (value.isascii() and value.isdigit()):
        return 0
    return int(value) if len(value) <= _MAX_RETRIES_DIGITS else 0


def misspelt(key: str) -> str:
    """What is wrong with a request header that is none of `KNOWN`: "" when it is not ours."""
    return _verdict(key[:_MAX_KEY])


@lru_cache(_VERDICTS)
def _verdict(key: str) -> str:
    plain = key.lower().replace("_", "-").replace(".", "-")
    if is_reserved(key):
        theirs = ", ".join(sorted(KNOWN | {RECEIPT}))
        return f"requests carry no {_ANSWERS} headers but one; theirs are {theirs}"
    if key.lower() == ENERGY:
        return ""
    meant = _meant(plain)
    if not meant:
        return ""
    return f"is not a header of this gateway; did you mean {meant}?"


def _meant(plain: str) -> str:
    words = plain.split("-")
    if any(_is_residency(word) for word in words):
        return RESIDENCY
    if plain.endswith("-bin"):
        # Bytes are nobody's budget or origin: a tracing context, mostly.
        return ""
    if plain.startswith("x-"):
        for header, word in _LATENCIES:
            # TTFT and TPOT mean nothing else; latency and e2e may be somebody's measurements.
            if word in words and (word in ("ttft", "tpot") or "budget" in words):
                return header
    if plain in _ENERGY_NAMES:
        return ENERGY
    if plain in _QUALITY_NAMES:
        return QUALITY_FLOOR
    for header in (*sorted(KNOWN), ENERGY):
        slips = _SLIPS_OF_SHORT if len(header) <= _SHORT else _SLIPS
        if slips_between(plain, header, slips) <= slips:
            return header
    return ""


def _is_residency(word: str) -> bool:
    if word in _PEOPLE:
        return False
    name = RESIDENCY.removeprefix("x-")
    return word.startswith(name[:-1]) or slips_between(word, name, _SLIPS) <= _SLIPS


def slips_between(a: str, b: str, most: int) -> int:
    """Letters left out, added, changed or swapped with their neighbour to make ``b`` of ``a``.

    The optimal string alignment distance; any number over ``most`` where it is over ``most``.
    """
    # A slip brings in one letter and takes out one at most: cheap to see, and true of most words.
    if abs(len(a) - len(b)) > most or len(set(a) ^ set(b)) > 2 * most:
        return most + 1
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        older, before, row = before, row, [i]
        for j, right in enumerate(b, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]

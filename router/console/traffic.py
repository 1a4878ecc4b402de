"""What receipts say of the last while: where requests went, where latency-first would have sent
them, and how long they took against what their callers allowed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.model import Provenance, Receipt
from router.telemetry.metrics import saved_g
from router.telemetry.view import Json
from router.unknown_figures import or_none

# Latencies are over so long, or so many of a model, of a tick so many.
WINDOW_S: Final = 60.0
_MOST_OF_A_MODEL: Final = 1024
_MOST_AT_ONCE: Final = 128
# Between two ticks; those beyond are counted, and no more.
_MOST_NEW: Final = 8192
_MOST_MODELS: Final = 50


class _Took:
    """The newest answers of one model, ms: rows of when, first token, whole answer, and the budgets
    of both, infinite where there was none."""

    __slots__ = ("_next", "rows")

    def __init__(self) -> None:
        self.rows = np.full((_MOST_OF_A_MODEL, 5), -np.inf)
        self._next = 0

    def add(self, ticks: float, receipts: Sequence[Receipt]) -> None:
        """More of them; where there are many at once, every so manieth."""
        every = math.ceil(len(receipts) / _MOST_AT_ONCE)
        for receipt in receipts[::every] if every > 1 else receipts:
            budget = receipt.request.budget
            self.rows[self._next] = (
                ticks, receipt.ttft_ms, receipt.e2e_ms, budget.ttft_ms, budget.e2e_ms,
            )  # fmt: skip
            self._next = (self._next + 1) % _MOST_OF_A_MODEL

    def since(self, ticks: float) -> NDArray[np.float64]:
        """Those at ``ticks`` and after, in no order."""
        return self.rows[self.rows[:, 0] >= ticks]


class OwnTotals:
    """What one owner's receipts came to since somebody looks on; ``since``: unix s."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.requests = 0
        self.gco2e_g = self.saved_g = self.energy_j = 0.0
        self.met = self.missed = 0

    def add(self, receipt: Receipt) -> None:
        """One more; what is not known of it adds nothing."""
        self.requests += 1
        self.gco2e_g += _known(receipt.gco2e)
        self.saved_g += _known(saved_g(receipt))
        self.energy_j += _known(receipt.energy_j)
        budget = receipt.request.budget
        limits = ((budget.ttft_ms, receipt.ttft_ms), (budget.e2e_ms, receipt.e2e_ms))
        for limit_ms, took_ms in limits:
            if limit_ms < math.inf and took_ms > 0.0:
                self.met += took_ms <= limit_ms
                self.missed += took_ms > limit_ms

    def document(self) -> dict[str, Json]:
        """As the feed has it."""
        return {
            "since": self.since,
            "requests": self.requests,
            "gco2e_g": self.gco2e_g,
            "saved_g": self.saved_g,
            "energy_j": self.energy_j,
            "met": self.met,
            "missed": self.missed,
        }


class ReceiptTraffic:
    """Takes receipts as they come, and says at each tick what they come to."""

    def __init__(self) -> None:
        self._new: deque[Receipt] = deque(maxlen=_MOST_NEW)
        self._count = 0
        self._ticks = 0.0
        # By whose requests alone, None for all, and model.
        self._recent: dict[str | None, dict[str, _Took]] = {None: {}}

    def take(self, receipt: Receipt) -> None:
        """On the way of requests: nothing is worked out here."""
        self._count += 1
        self._new.append(receipt)

    def turn(self, ticks: float, owners: Collection[str] = ()) -> tuple[list[Receipt], int]:
        """(those since the last turn, as far as they were kept; how many there were).

        ``owners``: whose latencies will be asked for beside those of all.
        """
        new, count = list(self._new), self._count
        self._new.clear()
        self._count = 0
        self._ticks = ticks
        self._recent = {owner: self._recent.get(owner, {}) for owner in (None, *owners)}
        for owner, recent in self._recent.items():
            models: dict[str, list[Receipt]] = {}
            for receipt in new:
                if owner is None or receipt.request.receipt_owner == owner:
                    models.setdefault(receipt.request.model, []).append(receipt)
            for model, receipts in models.items():
                if model not in recent and len(recent) >= _MOST_MODELS:
                    continue
                recent.setdefault(model, _Took()).add(ticks, receipts)
        return new, count

    def latency_document(self, owner: str | None) -> dict[str, Json]:
        """Measured latency by model, of all or of one owner's."""
        models = {
            name: took.since(self._ticks - WINDOW_S)
            for name, took in self._recent.get(owner, {}).items()
        }
        shown = sorted(models.items(), key=lambda item: -len(item[1]))
        return {
            "window_s": WINDOW_S,
            "models": [latency_of(name, rows) for name, rows in shown if len(rows)],
        }


def latency_of(name: str, rows: NDArray[np.float64]) -> Json:
    """Of one model, as the feed has it; ``rows``: (n, 5) as `_Took` keeps them, ms."""
    _, ttft_ms, e2e_ms, ttft_budget_ms, e2e_budget_ms = rows.T
    return {
        "model": name,
        "requests": len(rows),
        "ttft_ms": _quantiles(ttft_ms[ttft_ms > 0.0]),
        "e2e_ms": _quantiles(e2e_ms[e2e_ms > 0.0]),
        "ttft_budget": _kept(ttft_budget_ms, ttft_ms),
        "e2e_budget": _kept(e2e_budget_ms, e2e_ms),
    }


def _quantiles(values: NDArray[np.float64]) -> Json:
    """[median, 95 % quantile], ms; None of none."""
    if not len(values):
        return None
    median, high = np.quantile(values, (0.5, 0.95), method="lower")
    return [float(median), float(high)]


def _kept(limits_ms: NDArray[np.float64], took_ms: NDArray[np.float64]) -> Json:
    """Of those that had a budget: the tightest, ms, and how many kept to theirs."""
    held = (limits_ms < np.inf) & (took_ms > 0.0)
    if not held.any():
        return None
    met = int((took_ms[held] <= limits_ms[held]).sum())
    return {
        "least_ms": float(limits_ms[held].min()),
        "met": met,
        "missed": int(held.sum()) - met,
    }


def flows_document(receipts: Sequence[Receipt], count: int, seconds: float) -> dict[str, Json]:
    """By region that latency-first would have taken and region that answered: requests, grams, and
    net grams saved. ``count``: of all there were in ``seconds``, of which ``receipts`` were kept.
    """
    rows: dict[tuple[str, str], list[float]] = {}
    for receipt in receipts:
        first = receipt.decision.latency_first
        nearest = receipt.region if first is None else first.endpoint.region
        row = rows.setdefault((nearest, receipt.region), [0.0, 0.0, 0.0])
        row[0] += 1.0
        row[1] += _known(receipt.gco2e)
        row[2] += _known(saved_g(receipt))
    return {
        "seconds": seconds,
        "seen": len(receipts),
        "answered": count,
        "rows": [[*pair, *row] for pair, row in sorted(rows.items())],
    }


def receipt_document(receipt: Receipt) -> dict[str, Json]:
    """What an answer came to, for the decision that it followed from."""
    return {
        "gco2e_g": or_none(receipt.gco2e),
        "energy_j": or_none(receipt.energy_j),
        "energy_kind": Provenance(receipt.energy_kind).value,
        "g_per_kwh": or_none(receipt.g_per_kwh),
        "ttft_ms": or_none(receipt.ttft_ms),
        "e2e_ms": or_none(receipt.e2e_ms),
        "output_tokens": or_none(receipt.output_tokens),
        "attempts": receipt.attempts,
        "region": receipt.region,
    }


def _known(value: float) -> float:
    return value if math.isfinite(value) else 0.0

"""What receipts say of the last while: where requests went, where latency-first would have sent
them, and how long they took against what their callers allowed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from router.model import Provenance, Receipt
from router.telemetry.metrics import saved_g
from router.telemetry.view import Json

# Latencies are over so long, or so many.
WINDOW_S: Final = 60.0
MOST_RECENT: Final = 4096
# Between two ticks; those beyond are counted, and no more.
_MOST_NEW: Final = 8192
_MOST_MODELS: Final = 50


class _Took(NamedTuple):
    """One answer: ms; budgets infinite where there was none."""

    ticks: float
    owner: str
    model: str
    ttft_ms: float
    e2e_ms: float
    ttft_budget_ms: float
    e2e_budget_ms: float


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
        self._recent: deque[_Took] = deque(maxlen=MOST_RECENT)

    def take(self, receipt: Receipt) -> None:
        """On the way of requests: nothing is worked out here."""
        self._count += 1
        self._new.append(receipt)

    def turn(self, ticks: float) -> tuple[list[Receipt], int]:
        """(those since the last turn, as far as they were kept; how many there were)."""
        new, count = list(self._new), self._count
        self._new.clear()
        self._count = 0
        for receipt in new:
            request = receipt.request
            budget = request.budget
            self._recent.append(
                _Took(
                    ticks, request.receipt_owner, request.model, receipt.ttft_ms, receipt.e2e_ms,
                    budget.ttft_ms, budget.e2e_ms,
                )
            )  # fmt: skip
        while self._recent and ticks - self._recent[0].ticks > WINDOW_S:
            self._recent.popleft()
        return new, count

    def latency_document(self, owner: str | None) -> dict[str, Json]:
        """Measured latency by model, of all or of one owner's."""
        models: dict[str, list[_Took]] = {}
        for took in self._recent:
            if owner is None or took.owner == owner:
                models.setdefault(took.model, []).append(took)
        shown = sorted(models.items(), key=lambda item: -len(item[1]))[:_MOST_MODELS]
        return {"window_s": WINDOW_S, "models": [_model(name, found) for name, found in shown]}


def _model(name: str, took: Sequence[_Took]) -> Json:
    return {
        "model": name,
        "requests": len(took),
        "ttft_ms": _quantiles([one.ttft_ms for one in took if one.ttft_ms > 0.0]),
        "e2e_ms": _quantiles([one.e2e_ms for one in took if one.e2e_ms > 0.0]),
        "ttft_budget": _kept((one.ttft_budget_ms, one.ttft_ms) for one in took),
        "e2e_budget": _kept((one.e2e_budget_ms, one.e2e_ms) for one in took),
    }


def _quantiles(values: Sequence[float]) -> Json:
    """[median, 95 % quantile], ms; None of none."""
    if not values:
        return None
    median, high = np.quantile(np.array(values), (0.5, 0.95), method="lower")
    return [float(median), float(high)]


def _kept(pairs: Iterable[tuple[float, float]]) -> Json:
    """Of those that had a budget: the tightest, ms, and how many kept to theirs."""
    held = [(limit, took) for limit, took in pairs if limit < math.inf and took > 0.0]
    if not held:
        return None
    met = sum(took <= limit for limit, took in held)
    return {"least_ms": min(limit for limit, _ in held), "met": met, "missed": len(held) - met}


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
        "gco2e_g": _none(receipt.gco2e),
        "energy_j": _none(receipt.energy_j),
        "energy_kind": Provenance(receipt.energy_kind).value,
        "g_per_kwh": _none(receipt.g_per_kwh),
        "ttft_ms": _none(receipt.ttft_ms),
        "e2e_ms": _none(receipt.e2e_ms),
        "output_tokens": _none(receipt.output_tokens),
        "attempts": receipt.attempts,
        "region": receipt.region,
    }


def _known(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _none(value: float) -> float | None:
    return value if math.isfinite(value) else None

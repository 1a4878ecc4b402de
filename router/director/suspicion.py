"""Whose fault the failures of one request were: the endpoints', or the request's own.

Only other endpoints' answers to the same request can tell. See `router.core.outlier`.
"""

from __future__ import annotations

from typing import NamedTuple

from router.contract import Observer
from router.core.board import Board
from router.core.health import State
from router.core.retry import RetryBudget, Trials
from router.core.seat import ModelKey, Seat
from router.director.verdicts import Accused, Verdicts
from router.errors import (
    UpstreamBlamingError,
    UpstreamError,
    UpstreamRejectedError,
)
from router.model import Request


class _Suspect(NamedTuple):
    seat: Seat
    model: ModelKey
    departed: float
    blames: bool


class Suspicion:
    """The endpoints that failed a request, until it is known whose fault that was."""

    def __init__(
        self,
        request: Request,
        board: Board,
        trials: Trials,
        observer: Observer,
        verdicts: Verdicts,
        budget: RetryBudget,
    ) -> None:
        self._request = request
        self._board = board
        self._trials = trials
        self._budget = budget
        self._observer = observer
        self._suspects: list[_Suspect] = []
        self._blaming: UpstreamError | None = None
        self._trials_made = 0
        self._verdicts = verdicts
        # Endpoints that its trials under way will tell of.
        self._accused: list[Accused] = []

    def note(self, seat: Seat, model: ModelKey, departed: float, error: UpstreamError) -> None:
        """An endpoint failed the request, which left at ``departed``, and it is in doubt why."""
        blames = isinstance(error, UpstreamBlamingError)
        self._suspects.append(_Suspect(seat, model, departed, blames))
        if blames:
            self._blaming = self._blaming or error

    def may_try(self, error: UpstreamError, known: bool = False) -> bool:
        """Whether the request may be tried elsewhere after ``error``, and that can be paid.
        ``known``: that all found it wrong a moment ago."""
        if self._budget.balance < 1.0:
            return False
        if not isinstance(error, UpstreamBlamingError) or self._is_on_probation():
            return True
        if known:
            return False
        return self._trials.allowed(self._request.model, self._request.tenant)

    def _is_on_probation(self) -> bool:
        """Whether the endpoint that failed last has yet to show that it is well again: what it
        fails is tried elsewhere, however many trials its caller has spent."""
        if not self._suspects:
            return False
        seat, model, *_ = self._suspects[-1]
        outlier = seat.outliers.get(model)
        return outlier is not None and outlier.state is State.PROBING

    def tries(self, error: UpstreamError) -> None:
        """The request is tried elsewhere after ``error``, at its own cost."""
        if isinstance(error, UpstreamBlamingError):
            self._trials_made += 1
            self._trials.begin(self._request.model, self._request.tenant)
            if self._suspects:
                seat, model, *_ = self._suspects[-1]
                self._accused.append((seat.name, model))
                self._verdicts.begin((seat.name, model))

    def close(self, proven: bool = False) -> None:
        """Its trial has ended: whoever waits for what that tells hears of it."""
        accused, self._accused = self._accused, []
        for one in accused:
            self._verdicts.end(one, proven)

    def answered(self, now: float, model: ModelKey) -> None:
        """Another endpoint answered, with ``model``: the failures were the endpoints' own. Of an
        alias, what blames the request with one variant is not disproved by another, which may take
        what that one does not."""
        self._suspects = [
            one for one in self._suspects if not one.blames or one.model[0] == model[0]
        ]
        trials_made, self._trials_made = self._trials_made, 0
        for _ in range(trials_made):
            self._trials.proven(self._request.model, self._request.tenant)
        self._strike(now, proven=True)
        self.close(proven=True)

    def given_up(self, error: UpstreamError, now: float, bound: bool) -> UpstreamError:
        """No endpoint answered, the last error was ``error``; the one to tell the caller.

        ``bound``: by its nature the request could not be tried elsewhere.
        """
        self.close()
        if isinstance(error, UpstreamBlamingError):
            # Tried elsewhere and failed there, too, it is the request's doing as far as anybody
            # can tell; not tried for want of trials or budget, nothing is known.
            if bound:
                self._strike(now, proven=False)
            return error
        self._suspects = [one for one in self._suspects if not one.blames]
        self._strike(now, proven=False)
        if self._blaming is None:
            return error
        self._blaming.attempts = error.attempts
        return self._blaming

    def cut_short(self, error: UpstreamError, now: float) -> None:
        """An answer had begun and ended in ``error``: nobody else can be asked any more."""
        self.close()
        if not isinstance(error, UpstreamRejectedError):
            self._strike(now, proven=False)

    def _strike(self, now: float, proven: bool) -> None:
        suspects, self._suspects = self._suspects, []
        for seat, model, departed, _ in suspects:
            if self._board.strike(seat, model, now, departed, self._request.tenant, proven):
                self._observer.ejected(seat.name)

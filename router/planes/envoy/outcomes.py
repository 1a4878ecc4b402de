"""What Envoy did, told to the product: what runs where, how it ended, what that teaches and emits.

Each request that departs takes a place on its seat here, too, as one that the native gateway
carries does, and gives it back at its end: so health, latency, lengths, prices of room, metrics and
the ledger learn of it by the same functions. Decisions do not wait for that: Envoy's workers count
for themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from router.contract import AnswerSize, BackendReport
from router.core import kernel_rows as k
from router.core.accounting import Run, account, build_receipt, predict, with_marginal
from router.core.decision_ids import decision_id
from router.core.emitted import account_cut_short
from router.core.kernel import choose
from router.core.lease import Lease
from router.core.pipeline import Need, decision_of
from router.core.premiums import TEACHES
from router.core.question import Question
from router.director import Dispatcher, View
from router.director.attempt import seen_rtt_ms
from router.director.charge import Charge
from router.director.lessons import Lesson
from router.errors import (
    CarbonBudgetRefusedError,
    ShedError,
    UpstreamError,
    UpstreamLostError,
    UpstreamUnreachedError,
)
from router.http_api import ENERGY, USAGE
from router.identity.limits import used_tokens
from router.model import Decision, Outcome, Receipt, Request, RowOutcome, TaskProfile
from router.planes.envoy.blame import Blame
from router.planes.envoy.callers import CallerAnswers
from router.planes.envoy.kept_decisions import KeptDecisions
from router.planes.envoy.layout import DEPARTED, NO_MODEL, REFUSED, RequestRecord
from router.planes.envoy.record_errors import (
    METHODS,
    Failed,
    LeftError,
    error_of,
    grpc_name,
    refusal_of,
)
from router.planes.envoy.record_requests import (
    energy_of,
    is_sound,
    model_at,
    question_of,
    request_of,
    text_of,
    usage_of,
)

# Of a caller that went away, as nginx writes it.
_GONE: Final = 499
_NOTHING_SAID: Final = BackendReport(math.nan, math.nan, math.nan)
# What Envoy passes on by itself has no size that anybody measured.
_UNMEASURED: Final = AnswerSize(math.nan, math.nan)


class _Carried(NamedTuple):
    """A request that Envoy sent on. ``lease``: its place on the seat that it was sent to."""

    request: Request
    question: Question
    decision: Decision
    lease: Lease
    view: View
    charge: Charge | None


class Outcomes:
    """Takes in records in their order. ``identity``: of the gateway in decision ids; ``failed``:
    told of what was refused or failed; ``views``: by generation, by which records are read;
    ``keep``: receipts, to be asked for by id; ``kept``: takes decisions to be kept; ``callers``:
    has what is counted of principals and carbon budgets."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        identity: str,
        failed: Failed,
        callers: CallerAnswers,
        views: Mapping[int, View],
        keep: Callable[[Receipt], None],
        kept: KeptDecisions,
    ) -> None:
        self._dispatcher = dispatcher
        self._views = views
        self._keep = keep
        self._kept = kept
        self._identity = identity
        self._failed = failed
        self._uses, self._accounts = callers.uses, callers.accounts
        self._blame = Blame(dispatcher)
        self._carried: dict[int, _Carried] = {}
        self.known = 0
        self.unsound = 0
        self.foreign = 0

    def take(self, records: Iterable[RequestRecord]) -> int:
        """How many there were. Of the first `known` of the file another process learned all that
        had ended; `unsound` counts those that cannot be, of which nothing is learned, and `foreign`
        those of another configuration's endpoints, of the process before this one."""
        count = 0
        for record in records:
            count += 1
            view = self._views.get(record.generation)
            if view is None:
                self.foreign += 1
            elif not is_sound(record, view):
                self.unsound += 1
            elif record.kind == DEPARTED:
                self._depart(record, view)
            elif record.stamp <= self.known:
                self._drop(record.decision)
            elif record.kind == REFUSED:
                self._refuse(record, view)
            else:
                self._end(record)
        return count

    def on_seats(self) -> Mapping[str, int]:
        """Requests under way, by endpoint, as the seats count them."""
        return Counter(one.lease.seat.name for one in self._carried.values())

    def _drop(self, decision: int) -> None:
        carried = self._carried.pop(decision, None)
        if carried is not None:
            carried.lease.close(Outcome.IGNORED)
            if carried.charge is not None:
                # Another process charged what it took.
                carried.charge.give_up()

    def forget(self, head: int) -> None:
        """Envoy has ended, or of the first ``head`` records some were lost: nothing is known to run
        any more."""
        carried, self._carried = self._carried, {}
        for one in carried.values():
            one.lease.close(Outcome.IGNORED)
            if one.charge is not None:
                one.charge.lose()
        self._accounts.lost(head)

    def _depart(self, record: RequestRecord, view: View) -> None:
        request = request_of(record, model_at(view, record.model))
        question = question_of(record, request, view)
        decision = self._decision(record, question, view)
        seat = view.board.seats[decision.endpoint.name]
        if record.stamp > self.known and not record.is_greenest:
            self._teach_room(record, question, view)
            self._kept.take(record, request, view)
        lease = Lease(
            seat,
            decision.burden,
            seat.outliers.get((decision.served.name, decision.served.version)),
            record.departed_s,
            decision.e2e_ms / 1e3,
            record.departed_s,
        )
        charge = self._accounts.depart(record, request)
        self._carried[record.decision] = _Carried(request, question, decision, lease, view, charge)

    def _decision(self, record: RequestRecord, question: Question, view: View) -> Decision:
        snapshot = view.snapshot
        relaxed = snapshot.policy.ladder[: record.rung]
        if record.is_greenest:
            relaxed = snapshot.green_rungs[record.rung].relaxed
        now = self._dispatcher.parts.clock.now()
        return decision_of(record.found.values(), relaxed, question, snapshot, now)

    def _teach_room(self, record: RequestRecord, question: Question, view: View) -> None:
        """As a request that the native gateway forwards does: what room is worth."""
        if record.draw >= TEACHES:
            return
        columns, params = question.columns, view.snapshot.rungs[record.rung]
        candidates = columns.candidates
        live = view.board.live(candidates.model, candidates.version)
        found = choose(
            columns.table, live, candidates.labels, candidates.starts, params,
            *question.scalars, question.cached, record.draw, columns.scratch,
        )  # fmt: skip
        if found[0] >= 0:
            Need(question, params, columns.scratch[k.S_BEST].copy()).teach(view.board)

    def _refuse(self, record: RequestRecord, view: View) -> None:
        model = ("", "")
        if record.model != NO_MODEL:
            model = model_at(view, record.model)
        request = request_of(record, model)
        error = refusal_of(record, self._uses.name_of(record.use))
        if isinstance(error, CarbonBudgetRefusedError):
            error = self._accounts.missed(record, request)
        if isinstance(error, ShedError):
            self._want_places(view, model)
        if record.model != NO_MODEL:
            self._kept.take(record, request, view, error.reason)
        code = str(record.status) if record.is_http else grpc_name(record.grpc_status)
        self._failed(METHODS[record.is_http], request, code, error.reason, error)
        parts = self._dispatcher.parts
        if parts.ledger is not None:
            policy = view.snapshot.policy.name
            waited_ms = (record.ended_s - record.started_s) * 1e3
            parts.ledger.turned_away(
                request, RowOutcome.REFUSED, error.reason, policy, parts.clock.now(), waited_ms
            )

    def _want_places(self, view: View, model: tuple[str, str]) -> None:
        """None was left of this gateway's: more are asked for where gateways share them."""
        places = self._dispatcher.places
        if places is None:
            return
        places.refresh(self._dispatcher.parts.clock.monotonic(), at_once=True)
        for one in view.snapshot.columns[model].candidates.endpoints:
            places.claim(one.name, one.max_in_flight)

    def _end(self, record: RequestRecord) -> None:
        carried = self._carried.pop(record.decision, None)
        if carried is None:
            return
        error = error_of(record)
        if record.seat != record.first_seat:
            carried = self._moved(record, carried, error is None)
        if error is None:
            self._answered(record, carried)
        else:
            self._ended_in(record, carried, error)

    def _moved(self, record: RequestRecord, carried: _Carried, is_answered: bool) -> _Carried:
        """The endpoint that it was sent to failed it, and another one had it next."""
        view = carried.view
        decision = self._decision(record, carried.question, view)
        failed = carried.lease.seat
        carried.lease.close(Outcome.DROPPED)
        self._blame.moved(
            failed, carried.decision, carried.request, record.departed_s, record.ended_s,
            is_answered,
        )  # fmt: skip
        self._dispatcher.parts.observer.retried(UpstreamLostError.reason)
        seat = view.board.seats[decision.endpoint.name]
        model = (decision.served.name, decision.served.version)
        lease = Lease(
            seat, decision.burden, seat.outliers.get(model), record.departed_s,
            decision.e2e_ms / 1e3, record.departed_s,
        )  # fmt: skip
        return carried._replace(decision=decision, lease=lease)

    def _answered(self, record: RequestRecord, carried: _Carried) -> None:
        request, _, decision, lease, view, _ = carried
        dispatcher, seat = self._dispatcher, lease.seat
        batch_at_start, crowd = lease.crowd_at_start.batch, lease.crowd()
        batch_at_end = max(seat.batch, 1.0)
        seat.signs += 1
        seat.health.succeed(lease.departed)
        if lease.outlier is not None:
            lease.outlier.succeed(request.tenant, lease.departed)
        lease.close(Outcome.SUCCEEDED)
        view.board.answer(request.model)
        fleet = view.snapshot.layout.fleet
        task = isinstance(decision.served.profile, TaskProfile)
        attempt_ms = (record.ended_s - record.departed_s) * 1e3
        ttft_ms = math.nan
        if task:
            ttft_ms = attempt_ms
        elif record.streams:
            ttft_ms = (record.first_byte_s - record.departed_s) * 1e3
        run = Run(
            0, crowd, ttft_ms, attempt_ms, seen_rtt_ms(decision, fleet),
            1.0 if task else seat.tpot_ratio.factor(0.0), _UNMEASURED,
            (1.0 / max(batch_at_start, 1.0) + 1.0 / batch_at_end) / 2.0,
        )  # fmt: skip
        report = self._report(record, seat.name, decision.endpoint.protocol)
        receipt = self._receipt(record, carried, run, report)
        if carried.charge is not None:
            receipt = carried.charge.settle(receipt)
            self._accounts.settled(carried.charge)
        self._keep(receipt)
        if dispatcher.parts.ledger is not None:
            dispatcher.parts.ledger.ended(receipt, RowOutcome.ANSWERED)
        self._uses.settle(record.use, record.reserved_tokens, used_tokens(receipt))
        decided_s = record.departed_s - record.started_s
        dispatcher.note(
            Lesson(
                receipt, seat, batch_at_start, run, fleet, decided_s, decided_s, None,
                report,
            )
        )  # fmt: skip

    def _report(self, record: RequestRecord, endpoint: str, protocol: str) -> BackendReport:
        """What its server says that it took, and of its own load."""
        said: list[tuple[str, str | bytes]] = []
        if record.report:
            said.append(("endpoint-load-metrics", text_of(record.report)))
        if usage := usage_of(record):
            said.append((USAGE, usage))
        if energy := energy_of(record):
            said.append((ENERGY, energy))
        if not said:
            return _NOTHING_SAID
        parts = self._dispatcher.parts
        report = parts.upstreams[protocol].reports.read(said)
        if report.load is not None and parts.loads is not None:
            parts.loads.told(endpoint, report.load, record.ended_s)
        return report

    def _receipt(
        self,
        record: RequestRecord,
        carried: _Carried,
        run: Run | None,
        report: BackendReport = _NOTHING_SAID,
    ) -> Receipt:
        """``run`` None: it was cut short."""
        request, question, decision, lease, view, _ = carried
        dispatcher = self._dispatcher
        snapshot = view.snapshot
        if run is None:
            service_s = max(0.0, record.ended_s - record.departed_s)
            taken = account_cut_short(
                decision, question.expected, lease.crowd_at_start, service_s, 0,
                request.max_output_tokens,
            )  # fmt: skip
        else:
            agreed = dispatcher.lessons.sizes.agreed(request.model)
            sizes = agreed.answer or dispatcher.lessons.token_bytes.of(request.model)
            taken = account(request, decision, run, report, question.expected, sizes, agreed)
        regions = snapshot.layout.fleet.regions
        region = decision.endpoint.region
        now, run_s = dispatcher.parts.clock.now(), record.ended_s - record.departed_s
        receipt = build_receipt(
            self._id(record),
            request, decision, snapshot.policy.name, regions[region], max(1, record.attempts),
            taken,
            predict(decision, question.expected, lease.crowd_at_start, question.network_j, regions),
            math.nan if run is None else run.ttft_ms,
            (record.ended_s - record.started_s) * 1e3,
            question.network_j, snapshot.mean_g_per_kwh(region, now - run_s, run_s), now, run_s,
        )  # fmt: skip
        return with_marginal(receipt, view.marginal.get(receipt.grid_zone))

    def _ended_in(self, record: RequestRecord, carried: _Carried, error: UpstreamError) -> None:
        request, _, decision, lease, view, charge = carried
        dispatcher = self._dispatcher
        is_left = isinstance(error, LeftError)
        if not is_left:
            self._blame.ended(
                error, lease.seat, decision, request, view, record.departed_s, record.ended_s
            )
            # No server answered it.
            self._uses.settle(record.use, record.reserved_tokens, 0.0)
        lease.close(Outcome.IGNORED if is_left else Outcome.DROPPED)
        receipt = None
        if charge is not None or dispatcher.parts.ledger is not None:
            receipt = self._receipt(record, carried, None)
        if charge is not None and receipt is not None:
            if not isinstance(error, UpstreamUnreachedError):
                charge.cut_short(receipt)
            charge.give_up()
            self._accounts.settled(charge)
        if dispatcher.parts.ledger is not None and receipt is not None:
            outcome = RowOutcome.CANCELLED if is_left else RowOutcome.FAILED
            dispatcher.parts.ledger.ended(receipt, outcome, error.reason)
        code = str(record.status or _GONE)
        if not record.is_http:
            code = grpc_name(1 if is_left else record.grpc_status)
        error.endpoint, error.region = decision.endpoint.name, decision.endpoint.region
        error.attempts = max(1, record.attempts)
        error.decision_id = self._id(record)
        self._failed(METHODS[record.is_http], request, code, error.reason, error)

    def _id(self, record: RequestRecord) -> str:
        """As the module told it to the caller."""
        return decision_id(self._identity, record.decision, record.draw, record.hour)

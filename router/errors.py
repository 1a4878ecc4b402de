"""The whole error tree. Every leaf carries a stable, machine-readable ``reason``.

    CarbonRouterError
    ├── ConfigError                  config_invalid         an operator's file is wrong
    ├── DataError                    data_invalid           missing, malformed, not comparable
    │   ├── NoLedgerError            ledger_missing         no file of a ledger is there
    │   ├── TraceError               trace_invalid          a carbon or RTT table is malformed
    │   ├── DiscoveryError           discovery_failed       who is there cannot be told
    │   ├── MissingIntensityError    intensity_missing      no source knows this grid zone now
    │   ├── MixedBasisError          basis_mixed            average met marginal, or such
    │   └── ProviderError            a carbon provider gave no usable answer
    │       ├── ProviderRefusedError      provider_refused      key wrong, or outside the plan
    │       ├── ProviderBusyError         provider_busy         too many calls: wait
    │       ├── ProviderUnavailableError  provider_unavailable  timeout, connection, TLS or 5xx
    │       ├── ProviderAnswerError       provider_answer       malformed, or for something else
    │       │   └── ProviderRowError      provider_answer       one row of it: the others count
    │       ├── NoDataError               provider_no_data      nothing for this zone and time
    │       └── CallBudgetError           call_budget_spent     our own limit on calls: not asked
    ├── StateStoreError              state_store            what gateways share cannot be had
    ├── HintNotTakenError            hint_not_taken         how many replicas are wanted: not heard
    ├── EnvoyPlaneError              envoy_plane            Envoy, or the module in it, cannot run
    ├── JudgeError                   judge_failed           no verdict on an answer: it stands
    ├── RequestError                 the caller's request is wrong; never retried
    │   ├── MalformedRequestError    request_malformed
    │   ├── MessageTooLargeError     message_too_large
    │   ├── InvalidMetadataError     metadata_invalid       budget, origin, residency or tenant
    │   ├── MetadataTooLargeError    metadata_too_large
    │   ├── UnknownMethodError       method_unknown         this server has no such method
    │   ├── UnknownHostError         host_unknown           called by a name of a stranger
    │   ├── UnsupportedMethodError   method_unsupported     an RPC that is not for a whole fleet
    │   ├── UnauthenticatedError     unauthenticated        no credential, or none that is valid
    │   ├── NotPermittedError        not_permitted          more than the caller's principal may
    │   ├── UnknownFileError         file_unknown           no such file, for this tenant
    │   ├── UnknownBatchError        batch_unknown          no such batch, for this tenant
    │   ├── BatchEndedError          batch_ended            it is too late to change that batch
    │   └── UnknownModelError        model_unknown
    ├── RefusedError                 the request is right, the fleet or the policy says no
    │   ├── NothingFeasibleError     no_feasible_endpoint   no healthy endpoint
    │   ├── ShedError                shed                   every feasible endpoint is full
    │   ├── CarbonBudgetError        carbon_budget_exhausted  the day's grams are spent
    │   ├── CarbonBudgetHeldError    carbon_budget_held     what is left of them is held just now
    │   ├── ResidencyError           residency_excluded     no endpoint in the allowed jurisdictions
    │   ├── PolicyExcludesError      policy_excludes_all    carbon budget or context length
    │   ├── BudgetImpossibleError    budget_impossible      no endpoint can meet the latency budget
    │   ├── GatewayFullError         gateway_full           too many calls or bytes held here
    │   ├── RateLimitedError         rate_limited           a limit of the caller's principal
    │   ├── IdentityUnavailableError identity_unavailable   keys are still to come
    │   ├── ReceiptsUnreachableError receipts_unreachable   what other gateways keep cannot be had
    │   ├── DeferralQuotaError       deferral_quota         a tenant has as much waiting as it may
    │   ├── DeferralFullError        deferral_storage_full  no room is left where work waits
    │   ├── DeferralStoreError       deferral_store         where work waits cannot be used just now
    │   └── DrainingError            draining               this gateway is shutting down
    └── UpstreamError                a backend failed
        ├── UpstreamUnreachedError   upstream_unreached     it never reached a server: repeated
        ├── UpstreamLostError        upstream_lost          the connection broke under it: retried
        ├── UpstreamFaultError       upstream_fault         it says that it is broken: retried
        ├── UpstreamBusyError        upstream_busy          backpressure: retried, and left alone
        ├── UpstreamBlamingError     it may be the request's own doing: its words travel on
        │   ├── UpstreamInternalError   upstream_internal   it failed, or the request is bad: tried
        │   │                                               elsewhere, then passed on
        │   ├── UpstreamDeniedError     upstream_denied     it has no such model, or such: likewise
        │   └── UpstreamRejectedError   upstream_rejected   it blames the request: passed on, or
        │       │                                           tried elsewhere if it served such
        │       └── UpstreamTooLargeError   upstream_rejected   for its size alone: passed on
        └── UpstreamTimeoutError     upstream_timeout       no answer in the request's time

A protocol has one table of what its callers are told, in its room of ``router.gateway``, and one of
what its servers say, in its room of ``router.backends``.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class ConfigError(CarbonRouterError):
    """An operator's file is wrong. ``problems`` lists every defect found, not just the first."""

    reason = "config_invalid"

    def __init__(self, file: str, problems: Sequence[tuple[str, str]]) -> None:
        """``problems``: (key path such as ``endpoints[2].url``, what is wrong and its fix)."""
        self.file = file
        self.problems = tuple(problems)
        lines = [f"{file}: {key}: {text}" if key else f"{file}: {text}" for key, text in problems]
        super().__init__("\n".join(lines))


class DataError(CarbonRouterError):
    """A figure that the product needs is missing, malformed or not comparable."""

    reason = "data_invalid"


class DiscoveryError(DataError):
    """A place of discovery cannot tell which endpoints are there."""

    reason = "discovery_failed"


class NoLedgerError(DataError):
    """A place that is to be a ledger has none of its files."""

    reason = "ledger_missing"


class TraceError(DataError):
    """A carbon, RTT or workload table is malformed; names file, row and column."""

    reason = "trace_invalid"


class MissingIntensityError(DataError):
    """No source in the chain knows this grid zone at this time."""

    reason = "intensity_missing"


class MixedBasisError(DataError):
    """Two intensities of different basis or emission factors met in one comparison."""

    reason = "basis_mixed"


class ProviderError(DataError):
    """A carbon provider gave no usable answer. Messages never hold a key or a full URL."""


class ProviderRefusedError(ProviderError):
    """401 or 403: the key is wrong, or the plan does not include this zone or endpoint."""

    reason = "provider_refused"

    def __init__(self, message: str, status: int = 403) -> None:
        """``status``: 401 where a login's token may merely have expired."""
        super().__init__(message)
        self.status = status


class ProviderBusyError(ProviderError):
    """429: called too often."""

    reason = "provider_busy"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        """``retry_after_s``: what the provider asked for, None when it did not say."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ProviderUnavailableError(ProviderError):
    """No answer: timeout, connection, TLS, or a 5xx."""

    reason = "provider_unavailable"


class ProviderAnswerError(ProviderError):
    """An answer that is not what was asked for: malformed, another zone, another unit, frozen."""

    reason = "provider_answer"


class ProviderRowError(ProviderAnswerError):
    """One row of an answer cannot be used; the rest of the answer can."""

    def __init__(self, message: str, fault: str = "malformed", value: object = "") -> None:
        """``fault``: a `router.carbon.providers.rows.Fault`. ``value``: what was found, unchecked:
        it may hold anything, a key too, and is not part of the message.
        """
        super().__init__(message)
        self.fault = fault
        self.value = value


class NoDataError(ProviderError):
    """The provider answers, but has nothing for this grid zone and time."""

    reason = "provider_no_data"


class CallBudgetError(ProviderError):
    """The operator's limit on calls to this provider is spent; it was not asked."""

    reason = "call_budget_spent"

    def __init__(self, message: str, retry_after_s: float) -> None:
        """``retry_after_s``: until one more call is allowed."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StateStoreError(CarbonRouterError):
    """What several gateways share cannot be had now; each serves on what it knows itself."""

    reason = "state_store"

    def __init__(self, message: str, cause: str = "other") -> None:
        """``cause``: one of a few stable words, such as ``timeout`` or ``denied``."""
        super().__init__(message)
        self.cause = cause


class HintNotTakenError(CarbonRouterError):
    """Whoever is told how many replicas are wanted did not take it."""

    reason = "hint_not_taken"


class EnvoyPlaneError(CarbonRouterError):
    """Envoy is not installed, is another version, or the module that it loads cannot be had."""

    reason = "envoy_plane"


class JudgeError(CarbonRouterError):
    """Whoever is to judge answers of an alias gave no verdict."""

    reason = "judge_failed"


class RequestError(CarbonRouterError):
    """The caller's request is wrong; the same request will fail again."""


class MalformedRequestError(RequestError):
    """The bytes are no request of their protocol, or lack what routing needs."""

    reason = "request_malformed"


class MessageTooLargeError(RequestError):
    """A message beyond the limit in the configuration."""

    reason = "message_too_large"


class MetadataTooLargeError(RequestError):
    """Headers beyond the limit in the configuration."""

    reason = "metadata_too_large"


class UnknownMethodError(RequestError):
    """This server has no such method."""

    reason = "method_unknown"


class UnknownHostError(RequestError):
    """It was called by a name that may be a stranger's, who has it point here."""

    reason = "host_unknown"


class RequestStalledError(RequestError):
    """The body of a request stopped coming."""

    reason = "request_stalled"


class UnknownResponseError(RequestError):
    """A stored response that no endpoint of the fleet is known to hold (any more)."""

    reason = "response_unknown"


class UnknownReceiptError(RequestError):
    """No receipt with this id is kept here (any more), for this tenant."""

    reason = "receipt_unknown"


class UnknownFileError(RequestError):
    """No file with this id is kept here (any more), for this tenant."""

    reason = "file_unknown"


class UnknownBatchError(RequestError):
    """No batch with this id is kept here (any more), for this tenant."""

    reason = "batch_unknown"


class BatchEndedError(RequestError):
    """A batch that has ended cannot be cancelled."""

    reason = "batch_ended"


class BatchOpenError(RequestError):
    """A batch that has not ended has no results yet, and cannot be deleted."""

    reason = "batch_open"


class InvalidMetadataError(RequestError):
    """A routing header (budget, origin, residency, tenant) has an unusable value."""

    reason = "metadata_invalid"


class UnknownModelError(RequestError):
    """No endpoint of the fleet serves this model (or this version of it)."""

    reason = "model_unknown"


class UnsupportedMethodError(RequestError):
    """An RPC that acts on one server, and has no meaning for a fleet behind a gateway."""

    reason = "method_unsupported"


class UnauthenticatedError(RequestError):
    """Nobody is known by what the call brings: no credential, or one that is not valid (any more).

    ``why``: one word of `router.identity.credentials.Denial`, ``key_id``: the public part of a key
    of ours, "" where it brings none, and ``peer``, where it came from: for the operator alone.
    """

    reason = "unauthenticated"

    def __init__(self, message: str, why: str = "missing", key_id: str = "") -> None:
        super().__init__(message)
        self.why = why
        self.key_id = key_id
        self.peer = ""


class NotPermittedError(RequestError):
    """Who calls is known, and may not do this. ``what``: a role, or the header or field that asked
    for more than its ``principal`` may."""

    reason = "not_permitted"

    def __init__(self, message: str, what: str = "", principal: str = "") -> None:
        super().__init__(message)
        self.what = what
        self.principal = principal


class RefusedError(CarbonRouterError):
    """The request is well formed; the fleet's state or the policy refuses it now."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        """``retry_after_s``: a hint for the caller, None when waiting will not help."""
        super().__init__(message)
        self.retry_after_s = retry_after_s

    # What the decision saw, where one is kept (`router.director.recording`); no caller sees it.
    sight: object = None


class NothingFeasibleError(RefusedError):
    """No healthy endpoint serves the model."""

    reason = "no_feasible_endpoint"


class ShedError(RefusedError):
    """Every endpoint that could serve the request is at its concurrency cap."""

    reason = "shed"


class CarbonBudgetRefusedError(RefusedError):
    """A carbon budget has nothing for this request."""

    def __init__(
        self,
        message: str,
        retry_after_s: float | None = None,
        *,
        budget: str = "",
        account: str | None = "",
        ask_ug: int = 0,
        waits: bool = False,
    ) -> None:
        """``budget``, ``account``: whose; ``ask_ug``: what the request may emit; ``waits``: whether
        it does where it can. See `router.core.carbon_budgets`."""
        super().__init__(message, retry_after_s)
        self.budget = budget
        self.account = account
        self.ask_ug = ask_ug
        self.waits = waits


class CarbonBudgetError(CarbonBudgetRefusedError):
    """Not until the UTC day ends: all of it is spent, or what is not is too little."""

    reason = "carbon_budget_exhausted"


class CarbonBudgetHeldError(CarbonBudgetRefusedError):
    """What is left is reserved by requests under way, held by other gateways, or to be drawn."""

    reason = "carbon_budget_held"


class ResidencyError(RefusedError):
    """No endpoint lies in a jurisdiction that the request allows."""

    reason = "residency_excluded"


class PolicyExcludesError(RefusedError):
    """The policy's own constraints (carbon budget, context length) exclude every endpoint."""

    reason = "policy_excludes_all"


class BudgetImpossibleError(RefusedError):
    """No endpoint is predicted to meet the request's latency budget."""

    reason = "budget_impossible"


class GatewayFullError(RefusedError):
    """This process holds as many calls, or as many bytes of requests, as it may."""

    reason = "gateway_full"


class RateLimitedError(RefusedError):
    """The caller's ``principal`` has used up what it may for now. ``limit``: which of its limits,
    requests, tokens or concurrency."""

    reason = "rate_limited"

    def __init__(
        self,
        message: str,
        retry_after_s: float | None = None,
        limit: str = "requests",
        principal: str = "",
    ) -> None:
        super().__init__(message, retry_after_s)
        self.limit = limit
        self.principal = principal


class IdentityUnavailableError(RefusedError):
    """Whether a credential is valid cannot be told yet: the keys of a token's issuer are being
    fetched, or those in a store were not read so far."""

    reason = "identity_unavailable"


class ReceiptsUnreachableError(RefusedError):
    """A receipt that is not kept here may be with another gateway, which cannot be asked now."""

    reason = "receipts_unreachable"


class DeferralQuotaError(RefusedError):
    """A tenant has as many requests or bytes waiting as it may."""

    reason = "deferral_quota"


class DeferralFullError(RefusedError):
    """The disk on which deferred work waits has no room left: nothing of this call was kept."""

    reason = "deferral_storage_full"


class DeferralStoreError(RefusedError):
    """Where deferred work waits cannot be used just now."""

    reason = "deferral_store"


class DrainingError(RefusedError):
    """This gateway is shutting down and takes no new work."""

    reason = "draining"


class UpstreamError(CarbonRouterError):
    """A backend failed.

    ``endpoint``, ``region``, ``attempts`` and ``decision_id`` are filled in by whoever sent the
    request there.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """``retry_after_s``: what the server asked for, None when it did not say."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.endpoint = ""
        self.region = ""
        self.attempts = 0
        self.decision_id = ""


class UpstreamUnreachedError(UpstreamError):
    """No server has seen the request: connection or stream refused, or closed before it."""

    reason = "upstream_unreached"

    def __init__(self, message: str, *, refused: bool) -> None:
        """``refused``: the server lets nobody connect; else another connection may serve it, or
        this gateway lacks what one takes."""
        super().__init__(message)
        self.refused = refused


class UpstreamLostError(UpstreamError):
    """The connection broke, or was given up, while the server had the request."""

    reason = "upstream_lost"


class UpstreamFaultError(UpstreamError):
    """The server says that it cannot serve, or gives no answer."""

    reason = "upstream_fault"


class UpstreamBusyError(UpstreamError):
    """Backpressure: not a fault; marked busy, retryable."""

    reason = "upstream_busy"


class UpstreamBlamingError(UpstreamError):
    """The server itself failed the request, which may have deserved it.

    Only another endpoint's answer to the same request can tell. The server's own words and status
    are for the caller to read, so the message is theirs alone.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str = "",
        trailers: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        """``status``: as the server's protocol names it, "" where it named none. Like ``trailers``
        it travels from a backend to a front of one protocol; nobody between them reads it.
        """
        super().__init__(message)
        self.status = status
        self.trailers = tuple(trailers)


class UpstreamInternalError(UpstreamBlamingError):
    """The server itself says that it failed, some of a bad tensor, some of a broken GPU."""

    reason = "upstream_internal"


class UpstreamDeniedError(UpstreamBlamingError):
    """Not found, not permitted and the like: of this endpoint, or of the request."""

    reason = "upstream_denied"


class UpstreamRejectedError(UpstreamBlamingError):
    """The backend blames the request: passed on.

    Where it lately answered the same caller well, another endpoint is asked first.
    """

    reason = "upstream_rejected"


class UpstreamTooLargeError(UpstreamRejectedError):
    """It is too large for the server, or to be sent there: it would be as large elsewhere."""


class UpstreamTimeoutError(UpstreamError):
    """The backend did not answer within the request's time."""

    reason = "upstream_timeout"

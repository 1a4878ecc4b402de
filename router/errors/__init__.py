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

from router.errors.data import (
    CallBudgetError,
    DataError,
    DiscoveryError,
    MissingIntensityError,
    MixedBasisError,
    NoDataError,
    NoLedgerError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderRefusedError,
    ProviderRowError,
    ProviderUnavailableError,
    TraceError,
)
from router.errors.operator import (
    ConfigError,
    EnvoyPlaneError,
    HintNotTakenError,
    JudgeError,
    StateStoreError,
)
from router.errors.refused import (
    BudgetImpossibleError,
    CarbonBudgetError,
    CarbonBudgetHeldError,
    CarbonBudgetRefusedError,
    DeferralFullError,
    DeferralQuotaError,
    DeferralStoreError,
    DrainingError,
    GatewayFullError,
    IdentityUnavailableError,
    NothingFeasibleError,
    PolicyExcludesError,
    RateLimitedError,
    ReceiptsUnreachableError,
    RefusedError,
    ResidencyError,
    ShedError,
)
from router.errors.request import (
    BatchEndedError,
    BatchOpenError,
    InvalidMetadataError,
    MalformedRequestError,
    MessageTooLargeError,
    MetadataTooLargeError,
    NotPermittedError,
    RequestError,
    RequestStalledError,
    UnauthenticatedError,
    UnknownBatchError,
    UnknownFileError,
    UnknownHostError,
    UnknownMethodError,
    UnknownModelError,
    UnknownReceiptError,
    UnknownResponseError,
    UnsupportedMethodError,
)
from router.errors.root import (
    CarbonRouterError,
    span_of,
    tell_span,
)
from router.errors.upstream import (
    UpstreamBlamingError,
    UpstreamBusyError,
    UpstreamDeniedError,
    UpstreamError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamLostError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
    UpstreamUnreachedError,
)

__all__ = [
    "BatchEndedError",
    "BatchOpenError",
    "BudgetImpossibleError",
    "CallBudgetError",
    "CarbonBudgetError",
    "CarbonBudgetHeldError",
    "CarbonBudgetRefusedError",
    "CarbonRouterError",
    "ConfigError",
    "DataError",
    "DeferralFullError",
    "DeferralQuotaError",
    "DeferralStoreError",
    "DiscoveryError",
    "DrainingError",
    "EnvoyPlaneError",
    "GatewayFullError",
    "HintNotTakenError",
    "IdentityUnavailableError",
    "InvalidMetadataError",
    "JudgeError",
    "MalformedRequestError",
    "MessageTooLargeError",
    "MetadataTooLargeError",
    "MissingIntensityError",
    "MixedBasisError",
    "NoDataError",
    "NoLedgerError",
    "NotPermittedError",
    "NothingFeasibleError",
    "PolicyExcludesError",
    "ProviderAnswerError",
    "ProviderBusyError",
    "ProviderError",
    "ProviderRefusedError",
    "ProviderRowError",
    "ProviderUnavailableError",
    "RateLimitedError",
    "ReceiptsUnreachableError",
    "RefusedError",
    "RequestError",
    "RequestStalledError",
    "ResidencyError",
    "ShedError",
    "StateStoreError",
    "TraceError",
    "UnauthenticatedError",
    "UnknownBatchError",
    "UnknownFileError",
    "UnknownHostError",
    "UnknownMethodError",
    "UnknownModelError",
    "UnknownReceiptError",
    "UnknownResponseError",
    "UnsupportedMethodError",
    "UpstreamBlamingError",
    "UpstreamBusyError",
    "UpstreamDeniedError",
    "UpstreamError",
    "UpstreamFaultError",
    "UpstreamInternalError",
    "UpstreamLostError",
    "UpstreamRejectedError",
    "UpstreamTimeoutError",
    "UpstreamTooLargeError",
    "UpstreamUnreachedError",
    "span_of",
    "tell_span",
]

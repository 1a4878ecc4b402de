"""A figure that the product needs is missing, malformed, or not comparable."""

from __future__ import annotations

from router.errors.root import CarbonRouterError


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

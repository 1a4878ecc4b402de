"""The request is right; the fleet's state or the policy says no."""

from __future__ import annotations

from router.errors.root import CarbonRouterError


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

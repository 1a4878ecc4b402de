"""What a call says of itself, held to what its principal may: narrower stands, wider is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from router.config.identity import ANY_TENANT
from router.errors import NotPermittedError
from router.identity.principal import ANONYMOUS, Principal, Role
from router.model import Request

# Bits of the regions that lie in one of some jurisdictions, all of them for none.
RegionMask = Callable[[frozenset[str]], int]
_SHOWN: Final = 64


def require_role(principal: Principal, role: Role) -> None:
    """Raises NotPermittedError."""
    if not principal.has(role):
        raise NotPermittedError(
            f"this takes the role {role.value!r}, which the credential does not have",
            role.value,
            principal.name,
        )


def require_model(principal: Principal, model: str) -> None:
    """Raises NotPermittedError, whether there is such a model or not."""
    if not principal.may_use(model):
        raise NotPermittedError(
            f"model: the credential is not for {model[:_SHOWN]!r}", "model", principal.name
        )


def held_tenant(principal: Principal, tenant: str) -> str:
    """The tenant of a call that names ``tenant``, "" for none. Raises NotPermittedError."""
    if principal.tenant == ANY_TENANT or tenant == principal.tenant:
        return tenant
    if tenant:
        raise NotPermittedError(
            f"x-tenant: the credential is not of the tenant {tenant[:_SHOWN]!r}; leave it out",
            "x-tenant",
            principal.name,
        )
    return principal.tenant


def sequence_owner(principal: Principal, tenant: str) -> str:
    """Whose ids of sequences those of a call are: of its account, and of the tenant that it may
    name, "" for neither."""
    if principal is ANONYMOUS:
        return tenant
    return f"{principal.account}\0{tenant}"


def receipt_owner(principal: Principal, tenant: str) -> str:
    """Who is told receipts of calls that name ``tenant``: that tenant, or without one whoever
    called alone; "" where nobody is asked who calls. See `Request.receipt_owner`."""
    return tenant or ("" if principal is ANONYMOUS else principal.account)


def held_origin(principal: Principal, origin: str) -> str:
    """The origin of a call that names ``origin``, "" for none. Raises NotPermittedError."""
    if not principal.origins or origin in principal.origins:
        return origin
    if origin:
        raise NotPermittedError(
            f"x-origin: the credential is not for {origin[:_SHOWN]!r}", "x-origin", principal.name
        )
    return principal.origins[0]


def held_residency(
    principal: Principal, residency: frozenset[str], regions: RegionMask, what: str = "x-residency"
) -> frozenset[str]:
    """The jurisdictions of a call that names ``residency``, empty for none.

    They are narrower when each region that they allow is one that the principal's allow, whatever
    either is called. Raises NotPermittedError, naming ``what`` said so.
    """
    allowed = principal.residency
    if not allowed or not residency:
        return residency or allowed
    if regions(residency) & ~regions(allowed):
        raise NotPermittedError(
            f"{what}: wider than the credential, which is for {', '.join(sorted(allowed))}",
            what,
            principal.name,
        )
    return residency


def held(principal: Principal, request: Request, regions: RegionMask) -> Request:
    """``request`` as ``principal`` may make it. Raises NotPermittedError."""
    if principal is ANONYMOUS:
        return request._replace(sequence_owner=sequence_owner(principal, request.tenant))
    require_model(principal, request.model)
    tenant = held_tenant(principal, request.tenant)
    return request._replace(
        tenant=tenant,
        sequence_owner=sequence_owner(principal, tenant),
        origin=held_origin(principal, request.origin),
        residency=held_residency(principal, request.residency, regions),
    )

"""Who calls, as a value: what it may, and how much. Headers of a call only narrow it."""

from __future__ import annotations

import fnmatch
import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from router.config.identity import ANY_TENANT, GrantSchema

# Sets of patterns that are kept compiled: as many as a large file of keys has kinds of principals.
_COMPILED: Final = 4096


class Role(StrEnum):
    """What a principal does here. OPERATOR does all of it."""

    INFER = "infer"
    CONTROL = "control"
    RECEIPTS = "receipts"
    OPERATOR = "operator"


class PrincipalLimits(NamedTuple):
    """What one principal may use, at all gateways together; infinite where there is no limit."""

    requests_per_s: float = math.inf
    tokens_per_min: float = math.inf
    max_concurrent: float = math.inf


UNMETERED: Final = PrincipalLimits()


@dataclass(frozen=True, slots=True)
class Principal:
    """``name``: unique among those of one kind of credential. ``tenant``: "" for none,
    `ANY_TENANT` for whichever the call names. ``models``: patterns. ``residency``, ``origins``:
    empty for any; the first origin stands in where a call names none. ``weight``: its share of
    places when they are scarce. ``credential``: which of its credentials it came with, as the
    audit log calls that: never a secret.
    """

    name: str
    tenant: str = ""
    models: tuple[str, ...] = ("*",)
    residency: frozenset[str] = frozenset()
    origins: tuple[str, ...] = ()
    roles: frozenset[Role] = frozenset((Role.INFER,))
    limits: PrincipalLimits = UNMETERED
    weight: float = 1.0
    credential: str = field(default="", compare=False)

    @property
    def account(self) -> str:
        """Whose share of what is scarce its calls are of: its tenant's, or else its own, which no
        tenant's is: theirs begin with no space."""
        return self.tenant if self.tenant not in ("", ANY_TENANT) else f" {self.name}"

    def has(self, role: Role) -> bool:
        """Whether it has this role."""
        return role in self.roles or Role.OPERATOR in self.roles

    def may_use(self, model: str) -> bool:
        """Whether ``model`` is one that it may name."""
        return "*" in self.models or _patterns(self.models).fullmatch(model) is not None


# Whoever calls where nobody is asked who calls.
ANONYMOUS: Final = Principal(
    "anonymous", tenant=ANY_TENANT, roles=frozenset(Role), credential="none"
)
# Whoever asks what anybody may, such as whether the gateway is there, without a valid credential.
NOBODY: Final = Principal("nobody", models=(), roles=frozenset())


def principal_of(name: str, grant: GrantSchema, credential: str) -> Principal:
    """The principal ``name`` with what ``grant`` says."""
    return Principal(
        name,
        grant.tenant,
        tuple(grant.models),
        frozenset(grant.residency),
        tuple(grant.origins),
        frozenset(map(Role, grant.roles)),
        PrincipalLimits(
            *(
                math.inf if limit is None else float(limit)
                for limit in (
                    grant.limits.requests_per_s,
                    grant.limits.tokens_per_min,
                    grant.limits.max_concurrent,
                )
            )
        ),
        grant.weight,
        credential,
    )


@lru_cache(_COMPILED)
def _patterns(models: tuple[str, ...]) -> re.Pattern[str]:
    # Nothing matches no pattern.
    return re.compile("|".join(map(fnmatch.translate, models)) or r"(?!)")

"""What asks for a batch: its terms, and what its requests may do."""

from __future__ import annotations

import math
import re
import secrets
from typing import Final

import msgspec

from router.deferral.values import NO_SUMS, Batch, BatchStatus, BatchTerms, Counts, Grant
from router.errors import InvalidMetadataError, MalformedRequestError
from router.gateway import headers
from router.gateway.caller import Caller
from router.gateway.openai.calls import Incoming
from router.gateway.openai.deferred.upload import kept_s
from router.http_api import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from router.identity.narrowing import RegionMask, held_tenant, receipt_owner
from router.identity.principal import ANONYMOUS, Principal, PrincipalLimits, Role

ENDPOINTS: Final = tuple(api.path for api in (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES))
LONGEST_S: Final = 86_400.0
SHORTEST_S: Final = 60.0
MOST_BODY_BYTES: Final = 2**16
_WINDOW: Final = re.compile(r"([1-9][0-9]{0,4})([hm])", re.ASCII)
_UNITS: Final = {"h": 3600.0, "m": 60.0}
_MOST_PAIRS: Final = 16
_MOST_KEY: Final = 64
_MOST_VALUE: Final = 512
# What routing reads of a call's own headers, for every request of the batch; credentials are not
# kept.
_KEPT: Final = (headers.KNOWN - headers.BUDGETS - {headers.DEADLINE}) | {headers.SESSION}


class _ExpiresAfter(msgspec.Struct):
    anchor: str
    seconds: int


class _Body(msgspec.Struct):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: _ExpiresAfter | None = None


_DECODE: Final = msgspec.json.Decoder(_Body).decode


def owner_of(head: Incoming) -> str:
    """Whose files and batches a call is about: those of the tenant that it names and may name, or
    else its own, as of receipts. Raises NotPermittedError, InvalidMetadataError."""
    return receipt_owner(head.principal, held_tenant(head.principal, head.tenant))


def asked_batch(head: Incoming, body: bytes | bytearray, regions: RegionMask, now: float) -> Batch:
    """A new batch, as it is asked for now (unix s).

    Raises MalformedRequestError, InvalidMetadataError, ResidencyError and NotPermittedError.
    """
    grant = asked_grant(head, regions)
    try:
        asked = _DECODE(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError(f"the body: {error}") from None
    if asked.endpoint not in ENDPOINTS:
        raise MalformedRequestError(f"endpoint: give one of {', '.join(ENDPOINTS)}")
    window_s = _window_s(asked.completion_window)
    _check_metadata(asked.metadata)
    expires = asked.output_expires_after
    return Batch(
        f"batch_{secrets.token_hex(16)}",
        owner_of(head),
        BatchStatus.VALIDATING,
        BatchTerms(
            asked.endpoint,
            asked.input_file_id,
            asked.completion_window,
            grant,
            asked.metadata,
            None if expires is None else kept_s(expires.anchor, expires.seconds),
        ),
        now,
        now + window_s,
        {},
        Counts(),
        NO_SUMS,
        (),
        "",
        "",
    )


def asked_grant(head: Incoming, regions: RegionMask) -> Grant:
    """What requests may do that a call asks to be made later. Raises as `asked_batch`."""
    caller = Caller(head.fields, None, head.principal, regions)
    if caller.explicit:
        raise InvalidMetadataError(
            "latency budgets are of requests that are answered at once: give a completion_window"
        )
    return _grant(head.principal, head)


def principal_of(grant: Grant) -> Principal:
    """Whoever asked for a batch, with what it might do then."""
    if grant.is_anybody:
        return ANONYMOUS
    limits = (grant.requests_per_s, grant.tokens_per_min, grant.max_concurrent)
    return Principal(
        grant.name, grant.tenant, grant.models, frozenset(grant.residency), grant.origins,
        frozenset((Role.INFER,)),
        PrincipalLimits(*(math.inf if limit is None else limit for limit in limits)),
        grant.weight,
    )  # fmt: skip


def _grant(principal: Principal, head: Incoming) -> Grant:
    limits = [None if math.isinf(limit) else limit for limit in principal.limits]
    fields = tuple((key, value) for key, value in head.fields if key in _KEPT)
    return Grant(
        principal.name, principal.tenant, principal.models, tuple(sorted(principal.residency)),
        principal.origins, limits[0], limits[1], limits[2], principal.weight,
        principal is ANONYMOUS, tuple((key, str(value)) for key, value in fields),
    )  # fmt: skip


def _window_s(text: str) -> float:
    found = _WINDOW.fullmatch(text)
    window_s = float(found[1]) * _UNITS[found[2]] if found else math.nan
    if not SHORTEST_S <= window_s <= LONGEST_S:
        raise MalformedRequestError(
            f"completion_window: {text[:32]!r}; give 24h, or less in whole hours or minutes, such "
            "as 8h or 30m"
        )
    return window_s


def _check_metadata(metadata: dict[str, str] | None) -> None:
    if metadata is None:
        return
    wrong = len(metadata) > _MOST_PAIRS or any(
        len(key) > _MOST_KEY or len(value) > _MOST_VALUE for key, value in metadata.items()
    )
    if wrong:
        raise MalformedRequestError(
            f"metadata: give {_MOST_PAIRS} pairs at most, of keys up to {_MOST_KEY} and values up "
            f"to {_MOST_VALUE} characters"
        )

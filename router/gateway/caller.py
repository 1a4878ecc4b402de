"""Request metadata -> what routing needs to know of the caller; builds ``router.model.Request``.

    x-latency-budget-ms   end-to-end latency the caller accepts, ms
    x-ttft-budget-ms      time to first token, ms
    x-tpot-budget-ms      time per output token, ms
    x-origin              where the caller is, a name of the operator's RTT table
    x-residency           jurisdictions the request may run in, comma-separated, of any case
    x-tenant              on whose account
    x-deadline-s          it may wait before it begins, to be answered in so many seconds
    x-quality-floor       least quality of a variant, where the model is an alias, above 0 up to 1
    x-session-id          whose prompts begin alike, where they cannot be read
    x-carbon-receipt      full or compact: how the receipt is told (gRPC)

How often the client asked before, which clients say by themselves, is read, too
(``router.gateway.headers.RETRIES``).

A call's deadline is a latency budget too: the smaller of it, less a margin, and the header counts.
A principal that is not anybody's holds all of them to what it may (``router.identity.narrowing``).
A limit that is given twice, by a proxy and by its client, holds twice: the smaller budget, the
higher floor, and the jurisdictions that both name. What is nearly one of these is refused
(``router.gateway.headers``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from router.contract import Metadata
from router.core import claims
from router.errors import InvalidMetadataError, ResidencyError
from router.gateway import headers
from router.identity.narrowing import (
    RegionMask,
    held_origin,
    held_residency,
    held_tenant,
    require_model,
    sequence_owner,
)
from router.identity.principal import ANONYMOUS, Principal
from router.model import UNLIMITED, Budget, Request

# Of a message: there is no prompt in it that can be read.
NOWHERE = (0, 0)
MAX_NAME = 128
# What a caller's id of a request may be to be one here: it goes into logs, and into answers that
# are of this gateway. UUIDs, ULIDs, trace ids, base64, URNs.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")
_MAX_NUMBER = 32
_MAX_LIST = 512
_ROUTING = headers.KNOWN


class RoutingFields(NamedTuple):
    """What routing needs of one message. Token counts: NaN or inf where the caller gave none.

    ``max_output_tokens`` is the smallest of the limits given under its several usual names,
    ``input_tokens`` the largest count given. ``sequence_id`` is "" outside a sequence.
    ``ignored``: of `claims.IGNORED`, where a count is none that routing can use. ``prompt``: where
    in the message the bytes of its prompt lie; ``deadline_s``: by which it may wait, inf where it
    is not to; ``prompt_bytes``: of its text, where the caller gave no count of its tokens, 0 where
    that is not known.
    """

    model: str
    version: str
    request_id: str
    sequence_id: str = ""
    sequence_start: bool = False
    sequence_end: bool = False
    input_tokens: float = math.nan
    max_output_tokens: float = UNLIMITED
    ignored: tuple[str, ...] = ()
    prompt: tuple[int, int] = NOWHERE
    prompt_bytes: int = 0
    deadline_s: float = math.inf


class Caller:
    """The routing headers of one call; a stream reads them once and routes every message by them.

    Raises InvalidMetadataError, naming the header, for a value that is unusable and for a name
    that is nearly one of ours; ResidencyError where two lists of jurisdictions share none;
    NotPermittedError for more than its principal may.
    """

    __slots__ = (
        "_named", "_principal", "_regions", "deadline_s", "e2e_ms", "explicit", "origin",
        "quality_floor", "receipt", "residency", "retries", "session", "tenant", "tpot_ms",
        "ttft_ms",
    )  # fmt: skip

    def __init__(
        self,
        metadata: Metadata,
        check_other: Callable[[str, str | bytes], None] | None = None,
        principal: Principal = ANONYMOUS,
        regions: RegionMask = lambda residency: 0,
    ) -> None:
        """``check_other``: raises for a header of the caller's own that cannot travel on;
        ``principal``: whose call it is; ``regions``: of the fleet in force."""
        self._principal = principal
        self._regions = regions
        self.e2e_ms = self.ttft_ms = self.tpot_ms = UNLIMITED
        # By which it may wait; inf where it does not say.
        self.deadline_s = math.inf
        # `headers.FULL`, `headers.COMPACT`, or "" where it does not say.
        self.origin = self.tenant = self.session = self.receipt = ""
        self.residency: frozenset[str] = frozenset()
        self.explicit = False
        self.quality_floor = 0.0
        self.retries = 0
        for key, value in metadata:
            if key in _ROUTING:
                self._read(key, value)
                continue
            if key == headers.RECEIPT:
                self.receipt = _once(key, self.receipt, _receipt_form(value))
                continue
            if key == headers.SESSION:
                # Other systems read it, too: it is taken as it is, and travels on.
                self.session = str(value)
            elif key in headers.RETRIES:
                self.retries = max(self.retries, headers.retries_of(value))
            wrong = headers.misspelt(key)
            if wrong:
                raise InvalidMetadataError(f"{key[:MAX_NAME]}: {wrong}")
            if check_other is not None:
                check_other(key, value)
        # As the call itself says.
        self._named = self.residency
        if principal is not ANONYMOUS:
            self.tenant = held_tenant(principal, self.tenant)
            self.origin = held_origin(principal, self.origin)
            self.residency = held_residency(principal, self._named, regions)

    def narrow(self, residency: frozenset[str], what: str) -> None:
        """The request itself names jurisdictions, too, in a field called ``what``, here in lower
        case: those of both hold.

        Raises ResidencyError where none is in both, and NotPermittedError.
        """
        self.residency = self._named = _in_both(self._named, residency)
        if self._principal is not ANONYMOUS:
            self.residency = held_residency(self._principal, self._named, self._regions, what)

    def request(
        self,
        fields: RoutingFields,
        payload_bytes: int,
        remaining_s: float | None,
        margin_ms: float,
    ) -> Request:
        """What routing needs of one message. ``remaining_s``: until the deadline, None without.

        Raises NotPermittedError for a model that its principal may not use.
        """
        if self._principal is not ANONYMOUS:
            require_model(self._principal, fields.model)
        e2e_ms = self.e2e_ms
        explicit = self.explicit
        if remaining_s is not None:
            explicit = True
            left_ms = remaining_s * 1e3 - margin_ms
            if left_ms < e2e_ms:
                e2e_ms = left_ms if left_ms > 0.0 else 0.0
        input_tokens, max_output_tokens = fields.input_tokens, fields.max_output_tokens
        ignored = fields.ignored
        if not (math.isnan(input_tokens) and max_output_tokens == UNLIMITED):
            input_tokens, max_output_tokens, ignored = claims.counts(
                input_tokens, max_output_tokens, ignored
            )
        return Request(
            fields.model,
            fields.version,
            plain_request_id(fields.request_id),
            fields.sequence_id,
            self.origin,
            self.tenant,
            self.residency,
            Budget(self.ttft_ms, self.tpot_ms, e2e_ms, explicit),
            input_tokens,
            max_output_tokens,
            payload_bytes,
            fields.sequence_start,
            fields.sequence_end,
            ignored,
            None,
            fields.prompt_bytes if input_tokens != input_tokens else 0,
            self.retries,
            sequence_owner(self._principal, self.tenant),
            quality_floor=self.quality_floor,
        )

    def _read(self, key: str, value: str | bytes) -> None:
        limit = MAX_NAME
        if key in headers.BUDGETS or key in (headers.DEADLINE, headers.QUALITY_FLOOR):
            limit = _MAX_NUMBER
        elif key == headers.RESIDENCY:
            limit = _MAX_LIST
        text = _plain(key, value, limit)
        if key == headers.RESIDENCY:
            self.residency = _in_both(self.residency, _names(text))
        elif key == headers.ORIGIN:
            self.origin = _once(key, self.origin, text)
        elif key == headers.DEADLINE:
            self.deadline_s = min(self.deadline_s, _deadline_s(text))
        elif key == headers.TENANT:
            self.tenant = _once(key, self.tenant, text)
        elif key == headers.QUALITY_FLOOR:
            self.quality_floor = max(self.quality_floor, _quality(key, text))
        else:
            self.explicit = True
            budget_ms = _budget_ms(key, text)
            if key == headers.E2E_BUDGET:
                self.e2e_ms = min(self.e2e_ms, budget_ms)
            elif key == headers.TTFT_BUDGET:
                self.ttft_ms = min(self.ttft_ms, budget_ms)
            else:
                self.tpot_ms = min(self.tpot_ms, budget_ms)


def plain_request_id(text: str) -> str:
    """``text`` where it is letters, digits and ``._:/+=@~-``, up to 128 of them; else "": the
    request passes, to servers with the id that it has, and is named by no id here."""
    return text if _REQUEST_ID.fullmatch(text) else ""


def _plain(key: str, value: str | bytes, limit: int) -> str:
    if isinstance(value, bytes) or not (value.isascii() and value.isprintable()):
        raise InvalidMetadataError(f"{key}: use printable ASCII")
    if len(value) > limit:
        raise InvalidMetadataError(f"{key}: longer than {limit} characters")
    return value.strip()


def _once(key: str, before: str, text: str) -> str:
    if before and before != text:
        raise InvalidMetadataError(f"{key}: given twice, with different values")
    return text


def _names(text: str) -> frozenset[str]:
    # Of one case, as the configuration has them.
    names = frozenset(name.strip() for name in text.lower().split(",") if name.strip())
    if not names:
        # Read as "anywhere", an empty list would lift a restriction that somebody meant to set.
        raise InvalidMetadataError(
            f"{headers.RESIDENCY}: names no jurisdiction; leave it out for any"
        )
    return names


def _in_both(before: frozenset[str], names: frozenset[str]) -> frozenset[str]:
    if not before:
        return names
    both = before & names
    if not both:
        lists = " and ".join(", ".join(sorted(one)) for one in (before, names))
        raise ResidencyError(
            f"jurisdictions are named more than once, and none is in all of these: {lists}"
        )
    return both


def _receipt_form(value: str | bytes) -> str:
    form = str(value).strip().lower()
    if form not in (headers.FULL, headers.COMPACT):
        raise InvalidMetadataError(f"{headers.RECEIPT}: say {headers.FULL} or {headers.COMPACT}")
    return form


def _number(text: str) -> float:
    """As written by a caller; NaN of what is none. Python alone takes ``1_000``."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _deadline_s(text: str) -> float:
    deadline_s = _number(text)
    if not 0.0 < deadline_s < math.inf:
        raise InvalidMetadataError(f"{headers.DEADLINE}: give a number of seconds above 0")
    return deadline_s


def _quality(key: str, text: str) -> float:
    floor = claims.quality(_number(text))
    if math.isnan(floor):
        raise InvalidMetadataError(f"{key}: give a number above 0 and up to 1")
    return floor


def _budget_ms(key: str, text: str) -> float:
    budget_ms = claims.budget_ms(_number(text))
    if math.isnan(budget_ms):
        raise InvalidMetadataError(
            f"{key}: give a number of milliseconds above 0 and up to {claims.MAX_BUDGET_MS:.0f}"
        )
    return budget_ms

"""The caller's request is wrong; the same request will fail again."""

from __future__ import annotations

from router.errors.root import CarbonRouterError


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

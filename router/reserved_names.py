"""Names of headers and trailers that are this gateway's own: ``x-carbon`` and ``x-carbon-*``.

Only its answers carry them. From a client, or from a server that is itself a router, they would
pass for ours, so they end at both of its sides, however they are written: many servers take
``x_carbon_gco2e`` for the same.
"""

from __future__ import annotations

from typing import Final

_NAME: Final = "x-carbon"
# What is quickly looked for in every name.
_PART: Final = "carbon"


def is_reserved(name: str) -> bool:
    """Whether a header field, or a key of gRPC metadata, is one of ours."""
    if _PART not in name and name.isascii() and name.islower():
        return False
    plain = name.lower().replace("_", "-").replace(".", "-")
    return plain == _NAME or plain.startswith(_NAME + "-")

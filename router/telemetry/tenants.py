"""A tenant's name as it is kept: plain, as a hash, or not at all."""

from __future__ import annotations

import hashlib
from functools import lru_cache


@lru_cache(maxsize=4096)
def kept_tenant(tenant: str, style: str) -> str:
    """``style``: ``plain``, ``hash`` or ``omit``. "" of no tenant.

    The hash is the same everywhere and for ever: it tells tenants apart, and who knows a name can
    tell whether it is that one's.
    """
    if not tenant or style == "omit":
        return ""
    if style == "plain":
        return tenant
    return hashlib.blake2b(
        tenant.encode(errors="replace"), digest_size=8, person=b"carbon-router"
    ).hexdigest()

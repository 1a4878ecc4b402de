"""What a queue holds, wherever it is kept, for whoever looks from outside."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from router.app.loading import load
from router.app.shared_state import build_link
from router.deferral.redis import looking as in_redis
from router.deferral.seen import SeenBatch
from router.deferral.sqlite import looking as in_sqlite
from router.errors import DataError, DeferralStoreError


def seen(where: Path, batch_id: str = "", ended: bool = False) -> list[SeenBatch]:
    """Of the queue in the folder ``where``, or of the one that a configuration names. See
    `router.deferral.sqlite.looking.seen`.

    Raises DataError, ConfigError.
    """
    if not where.is_file():
        return in_sqlite.seen(where, batch_id, ended)
    config = load(where)
    deferral, redis = config.settings.deferral, config.settings.state.redis
    if deferral is None:
        raise DataError(f"{where}: nothing is deferred there; say where, in deferral")
    if not deferral.is_shared or redis is None:
        return in_sqlite.seen(deferral.dir, batch_id, ended)

    async def ask() -> list[SeenBatch]:
        link = build_link(config, os.environ)
        try:
            return await in_redis.seen(link, redis.prefix, batch_id, ended)
        finally:
            await link.close()

    try:
        return asyncio.run(ask())
    except DeferralStoreError as error:
        raise DataError(f"{where}: {error}") from None

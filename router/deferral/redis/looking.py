"""What a queue in Redis holds, for whoever looks from outside: nothing is changed."""

from __future__ import annotations

from router.deferral.redis import batch_scripts
from router.deferral.redis.calls import RedisCalls, Scripts
from router.deferral.redis.rows import batch_of
from router.deferral.seen import SeenBatch, SeenKind

_PIECE = 500


async def seen(
    calls: RedisCalls, prefix: str, batch_id: str = "", ended: bool = False
) -> list[SeenBatch]:
    """As `router.deferral.sqlite.looking.seen`. Raises DeferralStoreError."""
    scripts = Scripts(calls, prefix)
    ids: list[bytes | str] = [batch_id]
    if not batch_id:
        ids = await scripts.run(batch_scripts.IDS, "1" if ended else "0")
    found: list[tuple[float, SeenBatch]] = []
    for start in range(0, len(ids), _PIECE):
        for name, row, kinds in await scripts.run(batch_scripts.SEEN, *ids[start : start + _PIECE]):
            batch, _ = batch_of(name.decode(), row)
            sums = batch.sums
            found.append((batch.created_at, SeenBatch(
                batch.id, batch.owner, str(batch.status), batch.created_at, batch.expires_at,
                batch.counts, sums.gco2e if sums.gco2e_answers else None,
                sums.saved_g if sums.saved_answers else None,
                tuple(sorted(
                    SeenKind(model.decode(), int(waits), int(runs), why.decode())
                    for model, waits, runs, why in kinds
                )),
            )))  # fmt: skip
    return [one for _, one in sorted(found, key=lambda pair: (pair[0], pair[1].id))]

"""Prompts -> what they begin with, for the models whose servers keep prompts."""

from __future__ import annotations

import hashlib

import numpy as np

from router.contract import Rng
from router.core.prefixes import CHUNK_BYTES, MOST_BLOCKS, chain_bytes, chain_words
from router.director.call import Prompt
from router.model import Prefix


class Prefixes:
    """Of one process. Its keys are nobody else's: who knew them could have many prompts meet in one
    place of an index."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._seed = 0

    def of(
        self, prompt: Prompt, payload_bytes: int, input_tokens: float, tenant: str = ""
    ) -> Prefix | None:
        """What ``prompt`` begins with, in whole chunks of bytes; None where it has none.

        Its own bytes tell where they can be read. Else all prompts of one ``session`` are taken to
        begin as the one before did, each of them longer. ``input_tokens``: expected of it. Prompts
        of two tenants never meet: what is cached would tell one what the other asked. Nor do those
        of two salts: their server keeps them apart.
        """
        size = prompt.stop - prompt.first
        if size <= 0 and not prompt.session:
            return None
        chunks = min((size if size > 0 else payload_bytes) // CHUNK_BYTES, MOST_BLOCKS)
        if chunks <= 0:
            return None
        if not self._seed:
            self._seed = 1 + int(self._rng.random() * 2.0**62)
        keys = np.empty(chunks, np.int64)
        seed = self._seed ^ _word(tenant) if tenant else self._seed
        if prompt.salt:
            seed ^= _word(f"{len(tenant)}:{tenant}", prompt.salt)
        if size > 0:
            data = np.frombuffer(prompt.data, np.uint8)
            chain_bytes(data, prompt.first, CHUNK_BYTES, seed, keys)
            return Prefix(keys, input_tokens * CHUNK_BYTES / size)
        whole = np.array([0, chunks])
        session = _word(f"{len(tenant)}:{tenant}{prompt.session}")
        chain_words(np.arange(chunks), whole, self._seed ^ session, keys)
        return Prefix(keys, input_tokens * CHUNK_BYTES / payload_bytes)


def _word(name: str, salt: bytes = b"") -> int:
    digest = hashlib.blake2b(name.encode(errors="replace") + salt, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2

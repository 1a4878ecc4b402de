"""Headers by which callers of OpenAI's, Anthropic's, Azure's and Google's APIs, and of proxies, say
who they are, however they are written: many servers take ``x_api_key`` for ``x-api-key``, and over
gRPC ``-bin`` carries the same as bytes. None of them travels to a server that has a key of ours.
"""

from __future__ import annotations

from itertools import product
from typing import Final

_NAMES: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization")


def spellings(name: str) -> frozenset[str]:
    """A header's name in lower case, with ``-``, ``_`` or ``.`` between its words, and ``-bin``."""
    first, *words = name.split("-")
    marks = product("-_.", repeat=len(words))
    plain = {
        first + "".join(f"{mark}{word}" for mark, word in zip(own, words, strict=True))
        for own in marks
    }
    return frozenset(plain | {f"{one}-bin" for one in plain})


# How a key of ours begins, in whatever field it stands.
OWN_PREFIX: Final = "crk_"
CLIENT_KEYS: Final = frozenset[str]().union(*map(spellings, _NAMES))

"""Where sequences live: their state is held by one endpoint, which alone can go on with them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_MAX_SEQUENCES: Final = 10_000


class Pins:
    """``contract.SequencePins`` of one process; the least recently used make way."""

    def __init__(self, most: int = _MAX_SEQUENCES) -> None:
        self._most = most
        self._endpoints: OrderedDict[tuple[str, str], str] = OrderedDict()

    def find(self, model: str, sequence_id: str) -> str:
        """The endpoint that holds a sequence; "" when none does."""
        return self._endpoints.get((model, sequence_id), "")

    def keep(self, model: str, sequence_id: str, endpoint: str) -> None:
        """From now on ``endpoint`` holds the sequence."""
        key = (model, sequence_id)
        self._endpoints[key] = endpoint
        self._endpoints.move_to_end(key)
        if len(self._endpoints) > self._most:
            self._endpoints.popitem(last=False)

    def drop(self, model: str, sequence_id: str) -> None:
        """Nobody holds the sequence any more; begun anew, it is free to move."""
        self._endpoints.pop((model, sequence_id), None)

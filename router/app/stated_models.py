"""What servers said of the models that they serve, as far as the fleet in force has them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from router.contract import StatedModel
from router.core.layout import StatedContexts
from router.model import Endpoint, Fleet, ServedModel

_UNSAID = StatedModel(None, math.nan)

_log = logging.getLogger(__name__)


class StatedModels:
    """Of one process. ``version``: raised whenever a context is another one than before."""

    def __init__(self) -> None:
        self.version = 0
        # By endpoint: its address, and what was said there by model.
        self._said: dict[str, tuple[str, Mapping[str, StatedModel]]] = {}

    def adopt(self, fleet: Fleet) -> None:
        """Another fleet is in force: forget what servers said that are not in it any more."""
        addresses = {endpoint.name: endpoint.address for endpoint in fleet.endpoints}
        self._said = {
            name: said for name, said in self._said.items() if addresses.get(name) == said[0]
        }

    def take(self, endpoint: Endpoint, said: Mapping[str, StatedModel]) -> None:
        """A server answered. What differs from before has a line in the log."""
        before = {served.name: self.of(endpoint, served.name) for served in endpoint.models}
        self._said[endpoint.name] = (endpoint.address, dict(said))
        for served in endpoint.models:
            old, new = before[served.name], self.of(endpoint, served.name)
            if not _same(old.context_tokens, new.context_tokens):
                self.version += 1
                _tell_context(endpoint, served, old.context_tokens, new.context_tokens)
            if old.listed is not new.listed:
                _tell_listed(endpoint, served, old, new)

    def of(self, endpoint: Endpoint, model: str) -> StatedModel:
        """What the server at ``endpoint`` said last of a model."""
        address, said = self._said.get(endpoint.name, ("", {}))
        return said.get(model, _UNSAID) if address == endpoint.address else _UNSAID

    def contexts(self, fleet: Fleet) -> StatedContexts:
        """Tokens by names of endpoint and model, of those in ``fleet`` that say it."""
        found = {}
        for endpoint in fleet.endpoints:
            for served in endpoint.models:
                tokens = self.of(endpoint, served.name).context_tokens
                if tokens == tokens:
                    found[endpoint.name, served.name] = tokens
        return found


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _tell_context(endpoint: Endpoint, served: ServedModel, before: float, tokens: float) -> None:
    about: dict[str, object] = {"endpoint": endpoint.name, "model": served.name}
    configured = served.context_tokens
    if math.isnan(tokens):
        _log.info("server does not say its context any more", extra=about)
        return
    about["context_tokens"] = int(tokens)
    if math.isinf(configured):
        _log.info("server says its context", extra=about)
    elif tokens < configured:
        about["configured"] = int(configured)
        text = "server has a shorter context than is configured: longer requests go elsewhere"
        _log.warning(text, extra=about)
    elif before < configured:
        about["configured"] = int(configured)
        _log.info("server has as long a context as is configured again", extra=about)


def _tell_listed(
    endpoint: Endpoint, served: ServedModel, old: StatedModel, new: StatedModel
) -> None:
    about = {"endpoint": endpoint.name, "model": served.name}
    if new.listed is False:
        _log.warning("server does not list this model", extra=about)
    elif old.listed is False and new.listed:
        _log.info("server lists this model again", extra=about)

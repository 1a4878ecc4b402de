"""What the console is asked beside the feed: one decision, another policy, what was, how far off
forecasts were."""

from __future__ import annotations

from collections.abc import Mapping

from router.app.console.past import PastScenes
from router.app.console.sampling import Sampling
from router.app.runtime import Runtime
from router.app.turns import Turns
from router.carbon.chain.combine import LEADS_H
from router.console.decisions import explained, explanation_document
from router.console.outlooks import met_document
from router.console.scene import Scope, decision_documents, may_see
from router.console.what_if import effect_document, policy_names, what_if
from router.core.seen import DecisionKind
from router.errors import ConfigError


class ProcessAnswers:
    """`router.console.pages.ConsoleAnswers` of one process."""

    def __init__(self, runtime: Runtime, sampling: Sampling, past: PastScenes) -> None:
        self._runtime = runtime
        self._sampling = sampling
        self._past = past
        # One at a time: each takes a core for a moment.
        self._thinking = Turns()

    async def decision(self, scope: Scope, key: str) -> Mapping[str, object] | None:
        """See `router.console.pages.ConsoleAnswers`."""
        one = self._sampling.decisions.find(key)
        if one is None or not may_see(one, scope):
            return await self._past.decision(scope, key)
        async with self._thinking.turn() as turn:
            document = await turn.aside(lambda: explanation_document(one, explained(one)))
        (row,) = decision_documents([one], scope)
        return {"decision": row, "explanation": document}

    async def what_if(self, scope: Scope, policy: str) -> Mapping[str, object]:
        """See `router.console.pages.ConsoleAnswers`."""
        if policy not in policy_names():
            raise ConfigError("policy", [("", "choose one of " + ", ".join(policy_names()))])
        async with self._thinking.turn() as turn:
            mine = [one for one in self._sampling.decisions.all() if may_see(one, scope)]
            effect = await turn.aside(lambda: what_if(mine, policy))
        first = [one for one in mine if one.kept.kind is DecisionKind.FIRST]
        since = min((one.kept.sight.seen.at for one in first), default=None)
        return {"effect": effect_document(effect), "decisions": len(first), "since": since}

    async def past(self, scope: Scope, at: float | None) -> Mapping[str, object] | None:
        """See `router.console.pages.ConsoleAnswers`."""
        return await (self._past.reach(scope) if at is None else self._past.scene(scope, at))

    def forecasts(self, zone: str) -> Mapping[str, object] | None:
        """See `router.console.pages.ConsoleAnswers`."""
        chain = self._runtime.carbon.chain
        zones = {region.grid_zone for region in self._runtime.config.fleet.regions.values()}
        if zone not in zones:
            return None
        learned = next((one for one in chain.learned() if one.grid_zone == zone), None)
        return met_document(zone, chain.met(zone), learned, LEADS_H)

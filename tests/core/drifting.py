"""Random fleets whose boards drift while requests come: what decisions see of real life."""

import math
import random

import numpy as np

from router.core.budget_rulings import Ruling
from router.core.lengths import Expected
from router.core.prefixes import CHUNK_TOKENS
from router.core.rungs import CI_HOURS
from router.errors import CarbonBudgetError
from router.model import (
    UNLIMITED,
    Budget,
    Energy,
    Prefix,
    Relax,
    ResidencyRules,
    Spread,
    StaleCarbon,
    Weights,
)
from tests.factories import (
    BOTH_RUNGS,
    HOUR,
    NOW,
    board,
    endpoint,
    fleet,
    forecast,
    intensity,
    policy,
    region,
    request,
    served,
    snapshot,
    task_profile,
    token_profile,
)

REGIONS = ("east", "west", "north", "south", "islands")
LIES_IN = {"east": ("us",), "west": ("us",), "north": ("eu",), "south": ("eu",), "islands": ()}
_KEEPS = {"prefix_cache_tokens": 40_000, "prefill_ms_per_token": 0.05}
_FACTORS = ("grams", "ttft", "e2e", "load", "turn")


class Drift:
    """One fleet under a policy; every `step` a request comes, and now and then others end."""

    def __init__(self, seed: int, budgets: bool = False) -> None:
        self.rng = random.Random(seed)
        self.budgets = budgets
        self.snapshot = self._snapshot()
        self.board = board(self.snapshot)
        self.now = NOW
        self._held = []
        self._prompts = [
            Prefix(np.array([self.rng.getrandbits(62) for _ in range(40)], np.int64), CHUNK_TOKENS)
            for _ in range(20)
        ]

    def refresh(self, the_policy=None):
        """Another snapshot, of other carbon data."""
        before = self.snapshot
        self.snapshot = snapshot(
            before.layout.fleet,
            the_policy or before.policy,
            self._carbon(),
            self._means(),
            self.now,
        )
        # The board keeps the layout it was made of; both have the same order.
        return self.snapshot

    def arguments(self):
        """Of one decision, as `decide` takes them from `board` on, ``rng`` left out."""
        rng = self.rng
        limited = rng.random() < 0.3
        limits = [rng.choice([UNLIMITED, 60.0, 500.0, 6.5 if n == 1 else 9000.0]) for n in range(3)]
        a_request = request(
            model=rng.choice(["llama", "llama", "llama", "image"]),
            version=rng.choice(["", "", "v2"]),
            origin=rng.choice(["home", "coast", "nowhere"]),
            tenant=rng.choice(["", "acme", "other"]),
            residency=rng.choice([frozenset(), frozenset(), frozenset({"eu"})]),
            budget=Budget(*limits, True) if limited else Budget(),
        )
        if a_request.model == "image":
            a_request = a_request._replace(version="")
        elif rng.random() < 0.5:
            prompt = rng.choice(self._prompts)
            keys = prompt.keys[: rng.randrange(1, 40)]
            a_request = a_request._replace(prefix=prompt._replace(keys=keys))
        tokens = rng.lognormvariate(6.0, 1.5)
        answer = rng.lognormvariate(5.0, 1.0)
        names = [one.name for one in self.snapshot.layout.fleet.endpoints]
        tried = tuple(rng.sample(names, 2)) if rng.random() < 0.05 else ()
        pinned = rng.choice(names) if rng.random() < 0.02 else ""
        return {
            "request": a_request,
            "expected": Expected(tokens, answer, 3.0 * answer),
            "now": self.now,
            "network_j": rng.choice([0.0, 12.5]),
            "tried": tried,
            "pinned": pinned,
            "judge": self._judge if self.budgets else None,
            "monotonic": self.now - 1.6e9 + 0.1,
        }

    def happen(self, decision, arguments):
        """The request takes its place, and time goes by: others end, some servers fail."""
        rng = self.rng
        self.now += rng.expovariate(20.0)
        if decision is not None:
            seat = self.board.seats[decision.endpoint.name]
            seat.take(decision.burden, arguments["monotonic"])
            self._held.append((seat, decision.burden))
            found = self.board.prefixes_of(
                arguments["request"], decision.endpoint.name, decision.served
            )
            if found is not None:
                found[0].read(found[1], arguments["request"].prefix, 1.0)
        while self._held and (len(self._held) > 60 or rng.random() < 0.4):
            seat, burden = self._held.pop(rng.randrange(len(self._held)))
            seat.give_back(burden)
            if rng.random() < 0.1:
                seat.wait.observe(rng.uniform(5.0, 400.0), rng.uniform(1.0, 90.0), 1.0)
                seat.publish_latency()
        if rng.random() < 0.01:
            seat = rng.choice(list(self.board.seats.values()))
            seat.health.refuse(self.now)
            seat.publish_load()
        if rng.random() < 0.02:
            self.board.tick(self.now)

    def _judge(self, decision):
        rng = self.rng
        said = rng.random()
        if said < 0.7:
            return None
        refusal = CarbonBudgetError("spent") if said > 0.95 else None
        return Ruling((), 3, refusal, said < 0.85, ("over",) if said > 0.8 else ())

    def _carbon(self):
        rng = self.rng
        found = {}
        for name in REGIONS[: rng.choice([4, 5])]:
            hours = [rng.uniform(5.0, 900.0) for _ in range(CI_HOURS + 3)]
            step_s = rng.choice([HOUR, HOUR / 4])
            when = NOW - rng.choice([0.0, 30_000.0])
            found[f"grid-{name}"] = forecast(
                f"grid-{name}", *hours, step_s=step_s, observed_at=when
            )
        return found

    def _means(self):
        return {f"grid-{name}": intensity(self.rng.uniform(20.0, 600.0)) for name in REGIONS}

    def _snapshot(self):
        rng = self.rng
        fast = token_profile("fast", tpot_ms_per_cached_token=1e-4, **_KEEPS)
        slow = token_profile("slow", tpot_base_ms=14.0, max_batch=16, prefill_w_low=math.nan)
        endpoints = [
            endpoint(
                f"{name}-{copy}", name,
                served(rng.choice([fast, slow]), "llama", rng.choice(["", "v1", "v2"])),
                served(task_profile(), "image"),
                max_in_flight=rng.choice([1, 3, 8, 40]), emulated=rng.random() < 0.5,
            )
            for name in REGIONS
            for copy in range(rng.randrange(1, 4))
        ]  # fmt: skip
        regions = [region(name, LIES_IN[name], rng.uniform(1.05, 1.6)) for name in REGIONS]
        near = {name: rng.uniform(1.0, 200.0) for name in REGIONS}
        far = {name: rng.uniform(1.0, 200.0) for name in REGIONS}
        the_fleet = fleet(*endpoints, regions=regions, rtt_ms={"home": near, "coast": far})
        rules = ResidencyRules({}, {"acme": frozenset({"us", "eu"})}, True)
        object.__setattr__(the_fleet, "residency", rules)
        return snapshot(the_fleet, self.a_policy(), self._carbon(), self._means())

    def a_policy(self, **changes):
        """One at random."""
        rng = self.rng
        return policy(**{
            "name": f"random-{rng.getrandbits(20):x}",
            "weights": Weights(*[rng.choice([0.0, 1.0, 1e3]) for _ in _FACTORS]),
            "energy": rng.choice(list(Energy)),
            "annual_mean": rng.random() < 0.2,
            "near_tie": rng.choice([0.0, 0.05, 0.3]),
            "spread": rng.choice(list(Spread)),
            "pack_within": rng.choice([0.0, 0.1]),
            "budget": Budget(rng.choice([UNLIMITED, 300.0]), UNLIMITED, UNLIMITED),
            "max_g_per_kwh": rng.choice([math.inf, math.inf, 400.0]),
            "ladder": rng.choice([(), (Relax.CARBON,), BOTH_RUNGS]),
            "stale_carbon": rng.choice(list(StaleCarbon)),
            "scarcity": rng.choice([0.0, 0.8]),
            "wake_share": rng.choice([0.0, 0.5]),
            **changes,
        })  # fmt: skip

"""A console whose every name is hostile, as large as is asked for: a source, and no gateway."""

import math

from router.console.feed import Event, Feed
from router.console.totals import RegionTotals, Totals, rates_between, totals_document

HOSTILE = (
    "<img src=x onerror=globalThis.hit=1>",
    '"><script>globalThis.hit=1</script>',
    "javascript:globalThis.hit=1//",
    '=HYPERLINK("http://x","y")',
    "\u202egnp.exe\u2066\u0000\u001b[31m",
    "</script><svg onload=globalThis.hit=1>",
    "${globalThis.hit=1}{{7*7}}",
    "a" * 5000,
)
HOUR_S = 3600.0
NOW = 1_652_545_800.0


def bad(number, what=""):
    """A hostile name of its own."""
    return f"{HOSTILE[number % len(HOSTILE)]}{what}{number}"


class HostileScene:
    """A `ConsoleSource`: ``zones`` regions, each of a grid zone of its own, and ``endpoints``."""

    def __init__(self, zones=8, endpoints=24):
        self.feed = Feed("boot")
        self.ticks = 0
        self.zones = [bad(number, "z") for number in range(zones)]
        self.regions = [bad(number, "r") for number in range(zones)]
        self.endpoints = [bad(number, "e") for number in range(endpoints)]

    def fleet(self):
        count = len(self.regions)
        return {
            "format": 1, "scope": bad(1), "is_all": True, "policy": bad(0),
            "policies": [bad(2), "balanced"], "signal": {"basis": bad(0), "factors": bad(1)},
            "speed": 60.0, "processes": 2, "emulated": "some",
            "regions": [
                {"name": name, "zone": zone, "pue": 1.1}
                for name, zone in zip(self.regions, self.zones, strict=True)
            ],
            "endpoints": [
                {"name": name, "region": self.regions[place % count], "models": [bad(place)],
                 "max_in_flight": 8, "emulated": True}
                for place, name in enumerate(self.endpoints)
            ],
        }  # fmt: skip

    def grid(self):
        start = NOW // HOUR_S * HOUR_S

        def wave(place, hour):
            return 50.0 + 3.0 * place + 40.0 * math.sin((hour + place) / 4.0)

        zones = {}
        for place, zone in enumerate(self.zones):
            ahead = [wave(place, hour) for hour in range(24)]
            zones[zone] = {
                "now": {"g": ahead[0], "low": ahead[0] * 0.9, "high": ahead[0] * 1.1,
                        "kind": bad(place) if place == 2 else "forecast", "source": bad(place),
                        "observed_at": NOW, "stale": place == 1},
                "ahead": {"start": start, "step_s": HOUR_S, "g": ahead,
                          "low": [one * 0.8 for one in ahead],
                          "high": [one * 1.2 for one in ahead], "kinds": ["forecast"] * 24},
                "past": {"start": start - 24 * HOUR_S, "step_s": HOUR_S,
                         "g": [wave(place, hour) if hour % 7 else None for hour in range(-24, 0)],
                         "kinds": ["measured"] * 24},
                "errors": {"1": {"hours": 5, "published": 9.0, "own": 7.0, "used": 6.0}},
            }  # fmt: skip
        return {"version": 1, "now": NOW, "zones": zones}

    def totals(self):
        regions = {
            name: RegionTotals(10.0 * place * self.ticks, 0.5 * self.ticks)
            for place, name in enumerate(self.regions)
        }
        return Totals(
            gco2e_g=2.0 * self.ticks, saved_g=0.7 * self.ticks, energy_j=900.0 * self.ticks,
            requests={"OK": 30.0 * self.ticks}, refused={bad(1): 1.0},
            grams_kinds={f"forecast/{bad(0)}": 2.0 * self.ticks}, joules_kinds={bad(3): 1.0},
            saved_kinds={"emulated": 1.0}, regions=regions,
            budgets={"ttft": {"met": 9.0 * self.ticks, "missed": 1.0 * self.ticks}},
        )  # fmt: skip

    def tick(self):
        self.ticks += 1
        now = self.totals()
        self.ticks -= 1
        before = self.totals()
        self.ticks += 1
        count = len(self.regions)
        return {
            "at": NOW + self.ticks, "wall": NOW + self.ticks, "mono": float(self.ticks),
            "totals": totals_document(now), "rates": rates_between(before, now, 1.0), "own": None,
            "endpoints": [
                [(place + self.ticks) % 3 if place % 9 == 0 else 0, place % 4, place % 4 > 0,
                 bad(place)]
                for place in range(len(self.endpoints))
            ],
            "flows": {"seconds": 1.0, "seen": 3, "answered": 3, "rows": [
                [self.regions[place], self.regions[(place + 3) % count], 4.0 + place, 0.1, 0.02]
                for place in range(min(count, 12))
            ]},
            "latency": {"window_s": 60.0, "models": [
                {"model": bad(place), "requests": 3, "ttft_ms": [50.0, 90.0],
                 "e2e_ms": [900.0, 2000.0], "e2e_budget": None,
                 "ttft_budget": {"least_ms": 80.0, "met": 2, "missed": 1}}
                for place in range(len(HOSTILE))
            ]},
            "budgets": [
                {"budget": bad(place), "per": "tenant", "name": bad(place + 1), "limit_g": 10.0,
                 "spent_g": 9.5, "reserved_g": 0.1, "left_g": 0.4, "on_exhausted": "warn",
                 "shadow": True}
                for place in range(len(HOSTILE))
            ],
            "status": {"status": "degraded", "reasons": [
                {"reason": bad(0), "detail": bad(1), "blocking": False}
            ]},
            "decisions": {"share": 0.25},
        }  # fmt: skip

    def decisions(self):
        def one(place):
            name = bad(place)
            refused = place % 5 == 4
            row = {
                "key": f"d{place + 1}", "id": name, "request_id": name, "at": NOW, "kind": "moved",
                "attempt": 2, "model": name, "tenant": name, "origin": name,
                "budget": {"ttft_ms": 80.0, "tpot_ms": None, "e2e_ms": None},
                "refusal": name if refused else "", "probability": 0.25, "policy": name,
                "receipt": None,
            }  # fmt: skip
            if not refused:
                row |= {
                    "endpoint": name, "region": name, "zone": name, "emulated": True,
                    "gco2e_g": 0.003, "energy_j": 40.0, "g_per_kwh": 200.0,
                    "intensity_kind": "forecast", "ttft_ms": 40.0, "e2e_ms": 900.0,
                    "latency_first": {"endpoint": bad(place + 1), "region": name, "gco2e_g": 0.004},
                    "relaxed": [name], "flags": [name],
                }  # fmt: skip
            return row

        return [one(place) for place in range(2 * len(HOSTILE))]

    def deferred(self):
        start = NOW // HOUR_S * HOUR_S
        rows = [
            {"batch": bad(place), "model": bad(place), "tenant": bad(place), "jobs": 3,
             "reason": bad(place) if place else "no_room", "region": bad(place),
             "planned_at": NOW + place, "latest_start": NOW, "deadline": NOW, "now_g": 2.0,
             "planned_g": 1.0}
            for place in range(len(HOSTILE))
        ]  # fmt: skip
        return {
            "planned_at": NOW, "waiting": 40, "under_way": 2, "batches": 3,
            "cells": [[start + place * HOUR_S, bad(place, "r"), place + 1] for place in range(8)],
            "next": rows, "at_risk": rows, "saving": {"jobs": 40, "now_g": 9.0, "planned_g": 4.0},
        }  # fmt: skip

    def publish(self, *, first=False):
        events = []
        if first:
            events = [
                Event("fleet", self.fleet()),
                Event("grid", self.grid()),
                Event("deferred", self.deferred()),
            ]
        events += [Event("decisions", self.decisions()), Event("tick", self.tick())]
        self.feed.publish(events)

    def join(self, scope):
        return self.feed

    def beginning(self, scope, feed):
        return feed.beginning(
            [
                Event(name, feed.latest[name])
                for name in ("fleet", "grid", "deferred", "decisions", "tick")
            ]
        )

    async def state(self, scope):
        return self.feed.latest

    async def decision(self, scope, key):
        row = next((one for one in self.decisions() if key in (one["id"], one["key"])), None)
        if row is None:
            return None
        figures = {
            "pue": 1.1, "batch": 1.0, "max_in_flight": 8, "rtt_ms": 9.0, "delay_ms": 0.0,
            "ttft_ms": 40.0, "tpot_ms": 8.0, "e2e_ms": 900.0, "energy_j": 40.0,
            "prompt_energy_j": 3.0, "gco2e": 0.003, "premium_g": 0.001, "cached_tokens": 0.0,
            "g_per_kwh": 200.0, "intensity": None,
        }  # fmt: skip
        names = ("endpoint", "region", "grid_zone", "profile", "profile_provenance")
        candidates = [
            {
                **dict.fromkeys(names, bad(place)),
                **figures,
                "rank": None if place == 2 else place + 1,
                "cost": None if place == 2 else 0.01,
                "excluded": "full" if place == 2 else "",
            }
            for place in range(len(HOSTILE))
        ]
        weights = {"per_gco2e": 1.0, "per_ttft_ms": 1e-5, "per_e2e_ms": 0.0}
        return {
            "decision": row,
            "explanation": {
                "weights": weights, "quantile": 0.95, "tpot_quantile": 0.95,
                "budget": {"ttft_ms": 80.0, "tpot_ms": None, "e2e_ms": None}, "expected": {},
                "network_j": 0.0, "refusal": bad(1), "candidates": candidates, "not_shown": 3,
                "by_exclusion": {"": 7, "full": 1},
            },
        }  # fmt: skip

    async def what_if(self, scope, policy):
        total = {
            "name": "all", "requests": 80.0, "elsewhere": {"share": 0.5, "low": 0.4, "high": 0.6},
            "refused_then": 1.0, "refused_now": 2.0, "compared": 77.0, "grams_then": 4.0,
            "grams_now": 3.0, "energy_then_j": 9.0, "energy_now_j": 8.0,
            "ttft_then_ms": [40.0, 90.0], "ttft_now_ms": [50.0, 99.0],
        }  # fmt: skip
        regions = [
            {"region": bad(place), "requests_then": 9.0, "requests_now": 5.0, "grams_then": 1.0,
             "grams_now": 1.0}
            for place in range(len(HOSTILE))
        ]  # fmt: skip
        effect = {"policy": bad(0), "total": total, "models": [], "regions": regions,
                  "notes": [bad(1), bad(5)]}  # fmt: skip
        return {"effect": effect, "decisions": 80, "since": NOW}

    def forecasts(self, zone):
        start = NOW // HOUR_S * HOUR_S - 5 * HOUR_S
        met = [[start + hour * HOUR_S, 90.0, 80.0, 70.0 + hour, 75.0] for hour in range(5)]
        errors = {"hours": 5, "published": 9.0, "own": 7.0, "used": 6.0}
        return {"zone": zone, "errors": {"1": errors}, "met": {"1": met, "24": []}}

    async def past(self, scope, at):
        if at is None:
            return {"format": 1, "now": NOW, "recent": [NOW - 60.0, NOW], "has_ledger": True,
                    "sees_ledger": True, "hours": [[NOW - 7200.0, NOW]]}  # fmt: skip
        grid, tick = self.grid(), self.tick()
        self.ticks -= 1
        for zone in grid["zones"].values():
            zone["came"] = {**zone["ahead"], "g": [None, *zone["ahead"]["high"][1:]]}
        tick |= {"totals": None, "budgets": None, "kinds": {"grams_kinds": {bad(0): 1.0}},
                 "sums": {"seconds": 300.0, "answered": 5, "refused": 1, "failed": 1,
                          "gco2e_g": 1.0, "energy_j": 9.0, "saved_g": 0.5}}  # fmt: skip
        tick["endpoints"] = [[None, None, None, bad(1)] for _ in self.endpoints]
        return {
            "format": 1, "how": "ledger", "is_whole": False, "known_at": NOW, "at": at,
            "fleet": self.fleet(), "grid": grid, "history": [], "decisions": self.decisions(),
            "tick": tick,
        }  # fmt: skip

"""Fleets, requests and runs that a bound is held against."""

from dataclasses import replace

from hypothesis import strategies as st

from router.lab.replay.timed import TimedRequest
from router.lab.sim.simulation import Autoscaling
from router.model import Budget, LengthPrior, PromptOrder, Request, Spread, Weights
from tests import factories as f
from tests.factories import HOUR, START, policy
from tests.lab.sim import worlds

ANYWHERE = frozenset()


def profile(**changes):
    values = {
        "tpot_base_ms": 10.0, "tpot_ms_per_sequence": 0.5, "prefill_base_ms": 20.0,
        "prefill_ms_per_token": 0.1, "max_batch": 64, "target_batch": 8,
    }  # fmt: skip
    return f.token_profile("m@gpu", **{**values, **changes})


def fleet(places, *, one=None, max_in_flight=4, rtt_ms=None):
    """``places``: region to replicas; grid zones are Z-REGION, jurisdictions like the regions."""
    return f.fleet(
        *f.replicas(places, f.served(one or profile(), "m"), max_in_flight=max_in_flight),
        regions=[f.region(name, (name,), grid_zone=f"Z-{name}") for name in places],
        rtt_ms=rtt_ms or {"me": dict.fromkeys(places, 0.0)},
        default_origin="me",
        priors={"m": LengthPrior(100.0, 60.0, 120.0)},
    )


def ask(at_s, n_in=100, n_out=50, origin="me", budget=Budget(), allowed=ANYWHERE):  # noqa: B008
    request = Request(
        "m", origin=origin, input_tokens=float(n_in), budget=budget, residency=allowed
    )
    return TimedRequest(at_s, request, n_out, "test", streamed=True)


def simulation(requests, the_fleet, hours, policy, *, duration_s=HOUR, **changes):
    """``hours``: g/kWh by grid zone, from the hour that holds ``start`` on."""
    origins = tuple(the_fleet.rtt_ms)
    asked = [one.request for one in requests]
    allowed = (ANYWHERE, *sorted({one.residency for one in asked} - {ANYWHERE}, key=sorted))
    rows = [
        (
            timed.at_s, origins.index(one.origin), 0, 0, allowed.index(one.residency),
            one.input_tokens, timed.output_tokens, one.budget,
        )
        for timed, one in zip(requests, asked, strict=True)
    ]  # fmt: skip
    return worlds.simulation(
        the_fleet, rows, hours, duration_s, residencies=allowed, policies=(policy,), seed=0,
        hours=len(next(iter(hours.values()))), chunk=7 if len(rows) < 200 else 5000, **changes,
    )  # fmt: skip


WEIGHTS = (
    Weights(per_gco2e=1.0),
    Weights(per_ttft_ms=1.0),
    Weights(per_load=1.0),
    Weights(per_turn=1.0),
)


# From none of the law's terms of prompts to all of them, chunks included.
PROMPTS = st.fixed_dictionaries(
    {},
    optional={
        "prefill_ms_per_piece": st.floats(0.0, 5.0),
        "prefill_ms_per_token2": st.sampled_from([1e-6, 5e-5]),
        "tpot_ms_per_cached_token": st.sampled_from([1e-5, 2e-3]),
        "max_batched_tokens": st.sampled_from([70, 512]),
        "prompt_order": st.just(PromptOrder.SLOT),
        "prefill_w": st.sampled_from([477.0, 700.0]),
        "host_awake_w": st.just(210.0),
    },
)


@st.composite
def cases(draw, warm=False):
    """A fleet of two regions around a turn of the hour, and up to forty requests in a minute.
    ``warm``: whose prompts may begin alike, on servers that keep some of them."""
    count = draw(st.integers(1, 40))
    at = sorted(draw(st.lists(st.floats(0.0, 60.0), min_size=count, max_size=count)))
    longest = draw(st.sampled_from([400, 400, 6000]))
    lengths = st.tuples(st.integers(1, longest), st.integers(1, 300))
    asked = draw(st.lists(lengths, min_size=count, max_size=count))
    origins = draw(st.lists(st.sampled_from("ab"), min_size=count, max_size=count))
    budget = draw(
        st.sampled_from(
            [Budget(), Budget(e2e_ms=9000.0), Budget(tpot_ms=13.0), Budget(ttft_ms=120.0)]
        )
    )
    requests = [
        ask(t, n_in, n_out, origin, budget)
        for t, (n_in, n_out), origin in zip(at, asked, origins, strict=True)
    ]
    replicas = {"clean": draw(st.integers(1, 2)), "dirty": draw(st.integers(1, 3))}
    rtt = {"a": {"clean": 80.0, "dirty": 4.0}, "b": {"clean": 5.0, "dirty": 60.0}}
    the_fleet = fleet(
        replicas,
        one=profile(
            max_batch=draw(st.sampled_from([4, 64])),
            prefix_cache_tokens=draw(st.sampled_from([0, 200, 100_000])) if warm else 0,
            **draw(PROMPTS),
        ),
        max_in_flight=draw(st.integers(1, 10)),
        rtt_ms=rtt,
    )
    the_fleet = replace(the_fleet, default_origin="a")
    values = st.floats(20.0, 800.0)
    hours = {zone: [draw(values), draw(values)] for zone in ("Z-clean", "Z-dirty")}
    chosen = policy(
        weights=draw(st.sampled_from(WEIGHTS)), spread=draw(st.sampled_from(list(Spread)))
    )
    start = START // HOUR * HOUR + HOUR - draw(st.floats(1.0, 70.0))
    scaled = draw(st.sampled_from([None, Autoscaling(1.0, 1.0, 100.0)]))
    talks = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    blocks = [
        [talk * 1000 + place for place in range(n_in // 32)]
        for talk, (n_in, _) in zip(talks, asked, strict=True)
    ]
    of = simulation(
        requests, the_fleet, hours, chosen, start=start, duration_s=70.0, autoscaling=scaled,
        blocks=blocks if warm else None, block_tokens=32,
    )  # fmt: skip
    return of, requests, chosen

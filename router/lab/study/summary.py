"""``summary.json``: the figures of a study. Pure; every key is explained in docs/simulate.md."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from router import __version__
from router.config import format_time
from router.lab.sim.bound.run import Bound, regret
from router.lab.sim.histogram import Histogram
from router.lab.sim.result import PolicyResult
from router.lab.sim.scenario.assemble import BASELINES
from router.lab.study.attribution import EQUAL_WORK, SplitFigures, SplitRuns, split
from router.lab.study.causes import PolicyVariant
from router.lab.study.distance import over_bound, plan_values, whole_values
from router.lab.study.execute import Study
from router.lab.study.input_files import policy_values, profiles
from router.lab.study.report.disclosures import assumptions, kinds, notices
from router.lab.study.tasks import VariantRun, levers_of
from router.unknown_figures import plain_values

FORMAT: Final = "carbon-router/simulate/1"
QUANTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def summarise(study: Study) -> dict[str, Any]:
    """The whole study as plain values, without a wall-clock time; NaN becomes None."""
    simulation = study.simulation
    names = [policy.name for policy in study.policies]
    return {
        "format": FORMAT,
        "mode": "fluid" if study.fluid else "requests",
        "version": __version__,
        "scenario": {
            "name": simulation.name,
            "description": " ".join(study.inputs.schema.description.split()),
            "digest": study.inputs.digest,
            "files": [source._asdict() for source in study.inputs.sources],
            "start": format_time(simulation.start),
            "duration_s": simulation.duration_s,
            "warm_up_s": simulation.warm_up_s,
            "seed": simulation.seed,
            "seeds_of_split": [simulation.seed + later for later in range(study.seeds)],
            "gateways": asdict(simulation.gateways),
            "autoscaling": asdict(simulation.autoscaling) if simulation.autoscaling else None,
            "outages": [
                {**asdict(outage), "endpoints": sorted(outage.endpoints)}
                for outage in simulation.outages
            ],
            "regions": {
                name: {
                    "grid_zone": region.grid_zone,
                    "pue": region.pue,
                    "replicas": sum(e.region == name for e in simulation.fleet.endpoints),
                }
                for name, region in simulation.fleet.regions.items()
            },
        },
        "demand": {
            "requests": study.totals.requests,
            "may_wait": study.totals.may_wait,
            "input_tokens": study.totals.input_tokens,
            "output_tokens": study.totals.output_tokens,
            "budgets": {
                limit: [{"ms": ms, "requests": count} for ms, count in known.items()]
                for limit, known in study.totals.budgets.items()
            },
        },
        "carbon_signal": {
            "basis": str(simulation.carbon_signal.basis),
            "factors": str(simulation.carbon_signal.factors),
        },
        "profiles": [
            {"name": one.name, "kind": str(one.provenance), "source": one.source}
            for one in profiles(simulation)
        ],
        "kinds": kinds(study),
        "assumptions": list(assumptions(study)),
        "notes": [*study.loaded.notes, *_nothing_to_do(study)],
        "notices": list(notices(study)),
        "asked": names[: study.asked],
        "baselines": [name for name in names if name in BASELINES],
        "policies": {
            name: _policy(study, place) for place, name in enumerate(names)
        },
    }  # fmt: skip


def dumps(summary: Mapping[str, Any]) -> str:
    """The bytes of ``summary.json``: sorted keys, no NaN."""
    return json.dumps(plain_values(summary), indent=2, sort_keys=True, allow_nan=False) + "\n"


def _nothing_to_do(study: Study) -> list[str]:
    if study.totals.requests:
        return []
    return ["workload: no request arrives after the warm-up, so there is nothing to compare"]


def _policy(study: Study, place: int) -> dict[str, Any]:
    result, limit = study.runs[place].result, study.bounds[place]
    fleet = result.fleet
    return {
        "asked": place < study.asked,
        "settings": policy_values(study.policies[place]),
        "requests": result.offered,
        "completed": result.completed,
        "completed_share": share(result.completed, result.offered),
        "shed": sum(result.refused.values()),
        "shed_reasons": dict(result.refused),
        "failed": result.failed,
        "slo_attainment": result.met,
        "ttft_ms": quantiles(result.ttft_ms),
        "e2e_ms": quantiles(result.e2e_ms),
        "tpot_ms": quantiles(result.tpot_ms),
        "energy_j_attributional": result.energy_j,
        "energy_j_marginal": result.marginal_energy_j,
        "energy_j_consequential": fleet.total_j,
        "gco2e_attributional": result.gco2e,
        "gco2e_marginal": result.marginal_gco2e,
        "gco2e_consequential": fleet.total_g,
        "gco2e_per_completed_attributional": share(result.gco2e, result.completed),
        "gco2e_per_completed_consequential": share(fleet.total_g, result.completed),
        "fleet": {
            **asdict(fleet),
            "kept_on_j": fleet.busy_j + fleet.idle_j + fleet.spared_j,
            "kept_on_g": fleet.busy_g + fleet.idle_g + fleet.spared_g,
            "released_at_once_j": fleet.busy_j,
            "released_at_once_g": fleet.busy_g,
        },
        "regions": _regions(result),
        "saving_against": {
            study.policies[other].name: saving(result, study.runs[other].result)
            for other in range(len(study.policies))
            if study.policies[other].name in BASELINES and other != place
        },
        "saving_split": _split(study, place),
        "bound": _bound(limit) | _plans(study, place),
        "regret": regrets(result, limit),
        "over_bound": over_bound(result, limit, study.plans[place]) if study.plans else None,
        "moved_share": _moved(result),
        "peak_over_cap": result.peak_over_cap,
        "prompts_cached_share": result.prompts.cached_share,
        "mean_quality": result.mean_quality,
        "variants": [one._asdict() for one in result.variants],
        "relaxed": dict(result.relaxed),
    }


def _split(study: Study, place: int) -> dict[str, Any]:
    """The savings of a policy that was asked for, by baseline and cause; of others none."""
    if place >= study.asked:
        return {}
    asked = study.policies[place]

    def of(variant: PolicyVariant, later: int) -> SplitFigures:
        result = study.by_variant[VariantRun(variant, later)]
        return SplitFigures(
            share(result.fleet.total_g, result.completed),
            share(result.gco2e, result.completed),
            share(result.completed, result.offered),
            result.met,
            result.tpot_ms.quantile(0.50),
            result.tpot_ms.quantile(0.95),
            result.mean_quality,
        )

    chains = [chain for chain in study.chains if chain.asked.policy == asked]
    return split(chains, SplitRuns(of, study.seeds, *levers_of(study.simulation, study.fluid)))


def share(part: float, whole: float) -> float:
    """``part / whole``; NaN of nothing."""
    return part / whole if whole else math.nan


def quantiles(histogram: Histogram) -> dict[str, float]:
    """p50, p95 and p99 in ms, over the answered requests."""
    return {name: histogram.quantile(q) for name, q in QUANTILES.items()}


def _regions(result: PolicyResult) -> dict[str, dict[str, float]]:
    sums, total = result.by_region, result.completed
    return {
        name: {
            "completed": int(sums.completed[at]),
            "share": share(float(sums.completed[at]), total),
            "energy_j_attributional": float(sums.energy_j[at]),
            "energy_j_marginal": float(sums.marginal_energy_j[at]),
            "gco2e_attributional": float(sums.gco2e[at]),
            "gco2e_marginal": float(sums.marginal_gco2e[at]),
        }
        for at, name in enumerate(result.regions)
    }


def saving(result: PolicyResult, other: PolicyResult) -> dict[str, Any]:
    """What ``result`` emits less than ``other``, as a share of ``other``'s; negative: more.

    ``equal_work`` is false where it completed less of the requests, or kept fewer within their
    budgets, than ``other``, by more than 0.1 point: a saving at less work is none. The figures per
    completed request count a shed request against whoever shed it.
    """
    done, others = (share(one.completed, one.offered) for one in (result, other))
    return {
        "attributional": less(result.gco2e, other.gco2e),
        "marginal": less(result.marginal_gco2e, other.marginal_gco2e),
        "consequential": less(result.fleet.total_g, other.fleet.total_g),
        "attributional_per_completed": less(
            share(result.gco2e, result.completed), share(other.gco2e, other.completed)
        ),
        "consequential_per_completed": less(
            share(result.fleet.total_g, result.completed),
            share(other.fleet.total_g, other.completed),
        ),
        "slo_attainment": result.met,
        "slo_attainment_of_other": other.met,
        "completed_share": done,
        "completed_share_of_other": others,
        "equal_work": not (done < others - EQUAL_WORK or result.met < other.met - EQUAL_WORK),
        "other_did_equal_work": not (
            others < done - EQUAL_WORK or other.met < result.met - EQUAL_WORK
        ),
    }


def less(grams: float, other: float) -> float:
    """Share of ``other`` that is saved; NaN without any."""
    return 1.0 - grams / other if other else math.nan


def _bound(limit: Bound) -> dict[str, Any]:
    return {
        "gco2e_attributional": limit.busy_g,
        "gco2e_consequential": limit.fleet_g if math.isfinite(limit.fleet_g) else limit.busy_g,
        "energy_j": limit.busy_j,
        "requests": limit.requests,
        "impossible": limit.impossible,
        "overloaded_slots": limit.overloaded_slots,
        "unserved_share": limit.unserved,
        "share_by_region": dict(limit.share),
    }


def _plans(study: Study, place: int) -> dict[str, Any]:
    if not study.plans:
        return {"whole_replicas": None, "plans": None}
    limit = study.bounds[place]
    return {
        "whole_replicas": whole_values(limit),
        "plans": plan_values(limit, study.plans[place]),
    }


def regrets(result: PolicyResult, limit: Bound) -> dict[str, Any]:
    """Grams over the bound's, less 1. ``valid``: the run did all the work that is bounded."""
    fleet_g = limit.fleet_g if math.isfinite(limit.fleet_g) else limit.busy_g
    wanted = limit.requests - limit.impossible
    all_done = result.completed >= wanted * (1.0 - EQUAL_WORK)
    return {
        "attributional": regret(result.gco2e, limit.busy_g),
        "consequential": regret(result.fleet.total_g, fleet_g),
        "valid": bool(
            all_done
            and not limit.overloaded_slots
            # NaN of flows, which have no single requests that could miss a budget.
            and not result.met < 1.0 - 10.0 * EQUAL_WORK
        ),
    }


def _moved(result: PolicyResult) -> dict[str, float]:
    """Share of the traffic whose region changed from one update of the signal to the next."""
    shares = np.array([moved for _, moved in result.moved])
    return {
        "updates": len(shares),
        "mean": float(shares.mean()) if len(shares) else math.nan,
        "p95": nearest_rank(shares.tolist(), 0.95),
        "max": float(shares.max()) if len(shares) else math.nan,
    }


def nearest_rank(values: Sequence[float], q: float) -> float:
    """The smallest value that at least ``q`` of all do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else math.nan

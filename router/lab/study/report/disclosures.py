"""What a study's figures are and are not, in plain words: kinds, assumptions, notices."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from router.lab.sim.simulation import ScaledBy, Simulation
from router.lab.study.execute import Study
from router.lab.study.input_files import profiles
from router.model import Provenance, Signal, TokenProfile
from router.units import HOUR_S

_SIGNALS: Final = {
    "perfect": "the true values (measured; no router knows them)",
    "persistence": "the last published value (estimated)",
    "day_before": "the published value of the same hour of the day (estimated)",
    "forecaster": "the product's own forecaster, fed with what was published by then (forecast)",
    "file": "forecasts from a file (forecast)",
}


def signal_words(signal: Signal) -> str:
    """Such as "average, life-cycle"."""
    factors = {"lifecycle": "life-cycle", "direct": "direct", "none": "provider's own factors"}
    return f"{signal.basis}, {factors[str(signal.factors)]}"


def kinds(study: Study) -> dict[str, str]:
    """How each kind of figure came to be; the first word is one of measured, forecast,
    estimated, climatology, emulated."""
    measured = all(p.provenance is Provenance.MEASURED for p in profiles(study.simulation))
    profile = "measured" if measured else "measured or estimated, see profiles"
    grid = f"{study.inputs.schema.carbon.file.rsplit('/', 1)[-1]}"
    found = {
        "requests, completed, shed, failed, slo_attainment, moved_share, peak_over_cap": (
            "emulated: counted in the simulation"
        ),
        "ttft_ms, e2e_ms, tpot_ms": f"emulated: replicas behave as their profiles say ({profile})",
        "energy_j_attributional, energy_j_marginal": (
            f"emulated: GPU and host energy by the profiles' power curves ({profile})"
        ),
        "energy_j_consequential, fleet": (
            "emulated: energy of the whole fleet, idle replicas and PUE included"
        ),
        "gco2e_*": (
            f"emulated energy at the intensity that {grid} holds for each hour "
            f"(taken as measured; {signal_words(study.simulation.carbon_signal)})"
        ),
        "what policies knew of the grid": _knowledge(study),
        "saving_split": (
            "emulated: each cause is the difference of two runs in which one thing differs"
        ),
        "bound, regret": "estimated: a lower bound with perfect knowledge, see docs/bound.md",
    }
    if study.plans:
        found["bound.plans, over_bound"] = (
            "estimated: plans of whole replicas at a sample of moments, which are no bound, see "
            "docs/bound.md"
        )
    if study.totals.may_wait and not study.fluid:
        found["saving_split"] = (
            "estimated: each cause is the difference of two emulated runs in which one thing "
            "differs; when what may wait runs is the scheduler's choice by what it then knows"
        )
        found["bound, regret"] += "; what may wait runs whenever it likes before its deadline"
    if study.fluid:
        found = {name: text.replace("emulated", "estimated as flows") for name, text in
                 found.items()}  # fmt: skip
        absent = "absent: flows have no single requests"
        found["ttft_ms, e2e_ms, tpot_ms"] = found["slo_attainment, peak_over_cap"] = absent
    return found


def assumptions(study: Study) -> tuple[str, ...]:
    """What a reader must know before believing a saving."""
    simulation, schema = study.simulation, study.inputs.schema
    lag_h = schema.signal.publication_lag / HOUR_S
    lag = "" if schema.signal.kind == "perfect" else f", published {lag_h:g} h after each hour"
    many = simulation.gateways.count
    workload = (
        f"the requests of {schema.workload.file}"
        if schema.workload.file
        else "requests made up in the shape of real traffic, from the scenario's seed"
    )
    ran = (
        "No hardware ran, and no single request: demand flows hour by hour over replicas whose "
        "speed and power follow their profiles; each step is placed by the gateway's own compiled "
        "kernel."
        if study.fluid
        else "No hardware ran. Replicas serve answers and read prompts in shared iterations, whose "
        "length and power follow their profiles; routing decisions are those of the gateway's own "
        "compiled kernel."
    )
    return (
        ran,
        f"Work: {workload}; every policy gets the same ones, with the same lengths.",
        f"Policies decide by {_knowledge(study)}{lag}; grams are counted at the "
        "intensity that really was, whatever they believed.",
        "Attributional grams share a replica's energy among the requests that it runs. "
        "Consequential grams are all that the fleet emitted, idle replicas too; "
        + _idle_words(study),
        f"{_host_words(simulation)} Facility energy is all of it times each region's PUE; the "
        "network "
        + (
            f"costs {simulation.network_kwh_per_gb:g} kWh/GB."
            if simulation.network_kwh_per_gb
            else "is not counted."
        ),
        "Not counted: embodied emissions, training, storage, and the gateway itself.",
        (
            "One gateway sees every replica's load at once."
            if many == 1
            else f"{many} gateways; each learns of the load that others cause every "
            f"{simulation.gateways.staleness_s:g} s."
        ),
        "Baselines get the latency budget of the first policy that was asked for. The bound knows "
        "every request and intensity in advance and may use fractions of replicas: nobody can "
        "reach it, and regret is measured against it.",
        "Savings are split by cause with grams per completed request, by chains of policies in "
        "which one thing changes at a time; causes overlap, so that the order matters: packing is "
        "counted first, and last.",
        "A saving counts only at equal work: where a run completed less, or kept fewer requests "
        "within their budgets, the report says so beside it.",
    )


def _knowledge(study: Study) -> str:
    known = study.inputs.schema.signal
    if known.weather is None:
        return _SIGNALS[known.kind]
    return (
        f"{_SIGNALS[known.kind]}, and by the weather in {Path(known.weather).name}, each hour's "
        "taken to have been known a day ahead"
    )


def _host_words(simulation: Simulation) -> str:
    """What hosts (CPU, memory) draw beside the GPUs, over the profiles of the fleet."""
    awake_w, idle_w, fractions = set(), set(), set()
    for profile in profiles(simulation):
        fractions.add(profile.host_fraction)
        if isinstance(profile, TokenProfile):
            awake_w.add(profile.host_awake_w)
            idle_w.add(profile.host_idle_w)
    found = [f"{_span(fractions, '.0%')} of the GPUs' energy"] if max(fractions) > 0.0 else []
    if awake_w and max(awake_w) > 0.0:
        found.append(f"{_span(awake_w, 'g')} W awake and {_span(idle_w, 'g')} W idle a replica")
    return f"Hosts (CPU, memory) add {' and '.join(found) if found else 'nothing'}."


def _span(values: set[float], form: str) -> str:
    low, high = min(values), max(values)
    return f"{low:{form}}" if low == high else f"{low:{form}} to {high:{form}}"


def _idle_words(study: Study) -> str:
    scaling = study.simulation.autoscaling
    if scaling is None:
        return "here idle replicas stay on, under every policy."
    if scaling.by is ScaledBy.HINTS:
        return (
            "here replicas are released and woken by the gateway's hints: one goes that was not "
            f"wanted for {scaling.release_after_s:g} s, and then draws {scaling.asleep_w:g} W; "
            f"waking takes {scaling.wake_s:g} s at {scaling.wake_w:g} W."
        )
    return (
        f"here a replica is released after {scaling.release_after_s:g} s without work, and waking "
        f"takes {scaling.wake_s:g} s at {scaling.wake_w:g} W."
    )


def notices(study: Study) -> tuple[str, ...]:
    """Attribution that results must carry."""
    found = [" ".join(study.loaded.notice.split())] if study.loaded.notice else []
    found.append(
        "Power and latency profiles: ML.ENERGY Benchmark V3 (Apache-2.0), fitted, unless a "
        "profile names another source."
    )
    if study.inputs.schema.workload.generate is not None:
        found.append(
            "Shapes and lengths of made-up traffic: Alibaba ServeGen (Apache-2.0), Azure LLM "
            "inference trace 2023 (CC BY 4.0, Splitwise, ISCA 2024), as the scenario chooses."
        )
    return tuple(found)

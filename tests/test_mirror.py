"""Tests lie where their modules do, so that a module that moves or goes takes its tests along.

tests/X/test_Y.py is of router/X/Y.py; where Y is the name of the folder X, of router/X/__init__.py.
"""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROUTER = TESTS.parent / "router"

# Folders without a counterpart in router/.
OTHERS = {
    "benchmarks": "benchmarks/",
    "contract": "one suite a Protocol, for all who implement it",
    "data": "the tables that are shipped",
    "docker": "docker/",
    "docs": "docs/",
    "e2e": "whole processes",
    "fakes": "the fakes of the tests themselves",
    "real": "parts that nobody here wrote",
    "supply_chain": "locks, licences, known vulnerabilities and bills of materials",
}
# Files without a module of their name.
APART = {
    "_pb/test_stubs.py": "every generated module at once",
    "carbon/test_fault_cases.py": "providers, polling and chain together",
    "carbon/test_faults.py": "providers, polling and chain together",
    "carbon/test_outages.py": "provider, polling, chain and forecaster together",
    "config/test_fuzz.py": "loading as a whole",
    "config/test_policies.py": "policies/",
    "config/test_reference.py": "docs/config.md and the schemas",
    "core/test_pipeline_carbon.py": "core/pipeline.py, whose tests are too many for one file",
    "core/test_pipeline_limits.py": "core/pipeline.py, whose tests are too many for one file",
    "deferral/redis/test_killed.py": "the whole queue, and processes at it",
    "director/test_cancellation.py": "the whole director",
    "director/test_lying_endpoints.py": "the whole director",
    "director/test_random_faults.py": "the whole director",
    "gateway/openai/test_bad_input.py": "the whole HTTP front",
    "lab/calibration/test_virtual_gateway.py": "director and engine, held against each other",
    "gateway/test_permissions.py": "every RPC and route of both fronts",
    "lab/backtest/test_targets.py": "the forecaster's skill, which is more than one module's",
    "lab/sim/bound/test_bound_engine.py": "bound and engine, held against each other",
    "lab/sim/engine/test_prefix_affinity.py": "docs/scenarios/us-talks.yaml and the engine",
    "lab/sim/engine/test_capacity.py": "a scenario's load and the engine, held against each other",
    "lab/sim/scenario/test_shipped_scenarios.py": "docs/scenarios/",
    "lab/study/test_fluid_study.py": "lab/study/command.py; apart, to run beside the long ones",
    "planes/envoy/test_fuzz.py": "planes/envoy/source/, under sanitizers",
    "planes/envoy/test_passed_on.py": "Envoy and the native gateway behind it",
    "planes/envoy/test_sharing.py": "several planes on one store",
    "planes/envoy/test_random_endings.py": "the whole plane",
    "planes/envoy/test_scan.py": "planes/envoy/source/, held against both fronts",
    "planes/envoy/test_written.py": "numbers as source/ writes them",
    "test_mirror.py": "the tests themselves",
    "test_names.py": "every module at once",
}


def without_a_module():
    """Test files, relative to tests/, that no module of router/ answers to."""
    for path in sorted(TESTS.rglob("test_*.py")):
        folder = path.parent.relative_to(TESTS)
        name = path.stem.removeprefix("test_")
        package = ROUTER / folder / "__init__.py"
        if (ROUTER / folder / f"{name}.py").is_file():
            continue
        if name == package.parent.name and package.is_file():
            continue
        if not OTHERS.keys() & set(folder.parts[:1]):
            yield (folder / path.name).as_posix()


def test_every_test_file_has_its_module():
    lost = sorted(set(without_a_module()) - set(APART))
    listed = "".join(f"\n  tests/{name}" for name in lost)
    assert not lost, (
        f"no module of router/ has the name and place of:{listed}\n"
        "Move the tests to their module, or say in APART why there is none."
    )


def test_what_is_apart_is_there_and_has_no_module():
    gone = sorted(set(APART) - set(without_a_module()))
    assert not gone, f"take out of APART: {', '.join(gone)}"

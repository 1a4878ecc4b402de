from dataclasses import replace

import pytest
import yaml

from router.app.loading import load
from router.config.loading import shipped_policies
from router.lab.calibration import document
from router.lab.calibration.live_sample import sample
from router.lab.calibration.signal_table import signal_table
from router.model import (
    Budget,
    Energy,
    LengthPrior,
    Relax,
    ServedModel,
    Spread,
    StaleCarbon,
    Weights,
)
from tests import factories as f
from tests.lab.calibration.scenarios import small


def written(simulation, policy, tmp_path):
    chosen = sample(simulation, 10.0, seed=1)
    known = signal_table(simulation, chosen.period)
    return chosen, load(document.write(simulation, policy, chosen, known, tmp_path / "out"))


def test_the_gateway_reads_the_scenarios_own_fleet(tmp_path):
    simulation = small()
    chosen, loaded = written(simulation, simulation.policies[0], tmp_path)
    theirs, ours = loaded.fleet, simulation.fleet
    assert theirs.regions == ours.regions and theirs.priors == ours.priors
    assert theirs.rtt_ms == ours.rtt_ms and theirs.default_origin == ours.default_origin
    assert loaded.settings.health == simulation.health
    assert loaded.settings.network_kwh_per_gb == simulation.network_kwh_per_gb
    for theirs_one, one in zip(theirs.endpoints, chosen.endpoints, strict=True):
        assert (theirs_one.name, theirs_one.region) == (one.name, one.region)
        assert theirs_one.max_in_flight == one.max_in_flight and theirs_one.emulated
        for a, b in zip(theirs_one.models, one.models, strict=True):
            assert replace(a, profile=replace(a.profile, name=b.profile.name)) == b
    addresses = {endpoint.address for endpoint in theirs.endpoints}
    assert len(addresses) == len(theirs.endpoints)
    assert all(address.startswith("127.0.0.1:") for address in addresses)


def test_a_task_model_and_a_version_are_written_too(tmp_path):
    simulation = small()
    image = ServedModel("image", "2", f.task_profile(), float("inf"))
    first, *others = simulation.fleet.endpoints
    first = replace(first, models=(*first.models, image))
    fleet = replace(
        simulation.fleet,
        endpoints=(first, *others),
        priors={**simulation.fleet.priors, "image": LengthPrior(1.0, 1.0, 1.0)},
    )
    simulation = replace(simulation, fleet=fleet)
    _, loaded = written(simulation, simulation.policies[0], tmp_path)
    served = loaded.fleet.endpoints[0].models[1]
    assert served.name == "image" and served.version == "2"
    assert replace(served.profile, name=image.profile.name) == image.profile


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "weights": Weights(per_gco2e=2.0, per_e2e_ms=0.5),
            "energy": Energy.SHORT_RUN,
            "annual_mean": True,
            "near_tie": 0.07,
            "spread": Spread.PACK,
            "budget": Budget(ttft_ms=900.0, tpot_ms=70.0),
            "max_gco2e": 4.0,
            "max_g_per_kwh": 800.0,
            "ladder": (Relax.POLICY_LATENCY,),
            "stale_carbon": StaleCarbon.EXCLUDE,
        },
    ],
)
def test_a_policy_comes_back_as_it_was(tmp_path, changes):
    policy = f.policy(**changes)
    _, loaded = written(small(), policy, tmp_path)
    assert loaded.policy == policy


def test_what_static_policies_decide_by_is_the_scenarios(tmp_path):
    simulation = small()
    written(simulation, simulation.policies[0], tmp_path)
    values = yaml.safe_load((tmp_path / "out" / "live.yaml").read_text())
    means = {zone: mean.g_per_kwh for zone, mean in simulation.annual_means.items()}
    assert values["carbon"]["sources"][1]["g_per_kwh"] == means


@pytest.mark.parametrize("name", sorted(shipped_policies()))
def test_every_shipped_policy_comes_back_as_it_was(tmp_path, name):
    policy = f.shipped_policy(name)
    _, loaded = written(small(), policy, tmp_path)
    assert loaded.policy == policy


def test_a_policys_residency_is_written_as_its_file_has_it():
    assert document.policy_document(f.policy(residency=frozenset({"uk", "eu"})))["residency"] == [
        "eu",
        "uk",
    ]
    assert "residency" not in document.policy_document(f.policy())

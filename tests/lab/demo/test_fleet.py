from collections import Counter

from router.app.loading import load
from router.lab.demo import fleet as demo_fleet
from tests.lab.demo.days import write_config


def test_the_configuration_is_valid_and_every_endpoint_emulated(tmp_path):
    config = load(write_config(tmp_path))
    fleet = config.fleet
    assert len(fleet.endpoints) == demo_fleet.endpoint_count()
    assert all(endpoint.emulated for endpoint in fleet.endpoints)
    zones = {region.grid_zone for region in fleet.regions.values()}
    assert len(zones) >= 4 and {"US-CAL-CISO", "US-MIDA-PJM"} <= zones
    models = {served.name for endpoint in fleet.endpoints for served in endpoint.models}
    assert models == {demo_fleet.SMALL, demo_fleet.LARGE}
    assert len(fleet.rtt_ms) >= 3
    assert fleet.rtt_ms["us-west"]["california"] < fleet.rtt_ms["us-east"]["california"]


def test_a_day_of_carbon_passes_in_the_given_time(tmp_path):
    period = demo_fleet.period(60.0)
    assert period.speed == 1440.0
    config = load(write_config(tmp_path, 60.0))
    clock = config.settings.clock
    assert clock.speed == 1440.0
    assert clock.start == demo_fleet.DAY_START - demo_fleet.LEAD_S * 1440.0


def test_no_region_can_take_everything(tmp_path):
    """Capacity of one region stays below the mean demand for it (Little's law)."""
    fleet = load(write_config(tmp_path)).fleet
    slots = Counter()
    for endpoint in fleet.endpoints:
        slots[endpoint.region, endpoint.models[0].name] += endpoint.max_in_flight
    for model, share in ((demo_fleet.SMALL, 0.93), (demo_fleet.LARGE, 0.07)):
        profile = next(e.models[0].profile for e in fleet.endpoints if e.models[0].name == model)
        tokens = fleet.priors[model].output_tokens
        seconds = tokens * (profile.tpot_base_ms + profile.tpot_ms_per_sequence * 4) / 1e3
        in_flight = demo_fleet.MEAN_RPS * share * seconds
        assert all(count < in_flight for (_, name), count in slots.items() if name == model)


def test_the_same_question_is_asked_every_hour_from_everywhere(tmp_path):
    priors = load(write_config(tmp_path)).fleet.priors
    requests = demo_fleet.traffic(priors, demo_fleet.period(60.0), seed=1)
    same = [timed for timed in requests if timed.label == demo_fleet.SAME]
    assert len(same) == 24 * len(demo_fleet.ORIGINS)
    assert {timed.output_tokens for timed in same} == {demo_fleet.SAME_TOKENS}
    assert [timed.at_s for timed in requests] == sorted(timed.at_s for timed in requests)
    assert 3000 < len(requests) < 8000
    assert len({timed.request.request_id for timed in requests}) == len(requests)
    assert requests == demo_fleet.traffic(priors, demo_fleet.period(60.0), seed=1)

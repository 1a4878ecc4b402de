from router.lab.sim.result import FleetAccount


def test_what_a_fleet_drew_leaves_out_what_it_was_spared():
    account = FleetAccount(1.0, 2.0, 4.0, 100.0, 10.0, 20.0, 40.0, 1000.0)
    assert account.total_j == 7.0
    assert account.total_g == 70.0

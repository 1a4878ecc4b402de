import pytest

from router.config.loading import shipped_profiles
from router.config.profiles import calibrated_name
from router.errors import ConfigError
from router.ledger.month import Month
from router.operator.reporting.coefficients import (
    MarketFactor,
    embodied_table,
    gpu_share,
    gpu_shares,
    hardware_of,
    market_prices,
    read_market,
    read_pue,
)

NOVEMBER = Month(2026, 11)


def test_embodied_of_a_gpu_hour_is_te_over_el():
    h100 = embodied_table(None)["h100"]
    assert h100.te_g == (5_700_000 / 8 + 164_000)
    # Three years.
    assert h100.g_per_gpu_hour == pytest.approx(876_500 / (3 * 8766))
    assert "EcoLogits" in h100.source


def test_hardware_is_read_from_the_profiles_name():
    assert hardware_of("llama-3.1-70b@4xh100") == (4, "h100")
    assert hardware_of("my-own") is None


def test_gpus_draw_most_of_a_busy_replica():
    profile = shipped_profiles()["llama-3.1-8b@1xh100"]
    batch = profile.target_batch
    gpu_w = profile.base_w + profile.w_per_token_s * batch * 1000.0 / profile.tpot_ms(batch)
    assert gpu_share(profile) == pytest.approx(gpu_w / (gpu_w + profile.host_awake_w))
    assert all(0.5 < share < 1.0 for share in gpu_shares().values())


def test_pue_is_of_the_month(tmp_path):
    file = tmp_path / "pue.csv"
    file.write_text("region,month,pue,source\nwest,2026-10,1.3,bill\nwest,2026-11,1.2,bill\n")
    assert [(one.region, one.pue) for one in read_pue(file, NOVEMBER)] == [("west", 1.2)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("region,pue\nwest,1.2\n", "no column month, source"),
        ("region,month,pue,source\nwest,2026-11,0.9,x\n", "row 2.*no PUE"),
        ("region,month,pue,source\nwest,2026-11,abc,x\n", "row 2.*no number"),
        ("region,month,pue,source\nw,2026-11,1.1,x\nw,2026-11,1.2,x\n", "two figures"),
        ("region,month,pue,source\nwest,2026-11\n", "cells"),
    ],
)
def test_a_wrong_pue_file_is_told(tmp_path, text, why):
    file = tmp_path / "pue.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=why):
        read_pue(file, NOVEMBER)


def test_certificates_of_the_hour_come_first_and_the_cleanest_of_them():
    factors = [
        MarketFactor("W", 5, 2.0, 20.0, "solar"),
        MarketFactor("W", 5, 1.0, 0.0, "wind"),
        MarketFactor("W", None, None, 400.0, "residual"),
        MarketFactor("E", 5, 1.0, 0.0, "wind"),
    ]
    used = {("W", 5): 4.0, ("W", 6): 4.0, ("E", 5): 4.0, ("E", 6): 0.0}
    assert market_prices(factors, used) == {
        # 1 kWh at 0, 2 at 20 and the rest at 400.
        ("W", 5): 110.0,
        ("W", 6): 400.0,
    }


def test_a_residual_of_the_hour_is_taken_before_that_of_all():
    factors = [MarketFactor("W", None, None, 400.0, "a"), MarketFactor("W", 5, None, 300.0, "b")]
    assert market_prices(factors, {("W", 5): 1.0})["W", 5] == 300.0
    with pytest.raises(ConfigError, match="two residual factors"):
        market_prices([*factors, MarketFactor("W", 5, None, 200.0, "c")], {})


def test_a_market_file_is_read_and_what_is_wrong_is_told(tmp_path):
    file = tmp_path / "market.csv"
    head = "grid_zone,hour,kwh,g_per_kwh,source\n"
    file.write_text(head + "W,2026-11-01T05:00Z,3.5,0,wind\nW,,,400,residual\n")
    certificate, residual = read_market(file)
    assert (certificate.kwh, certificate.hour) == (3.5, NOVEMBER.first_hour + 5)
    assert (residual.kwh, residual.hour) == (None, None)
    file.write_text(head + "W,,3.5,0,wind\n")
    with pytest.raises(ConfigError, match="a certificate is of one hour"):
        read_market(file)
    file.write_text(head + "W,2026-11-01T05:30Z,3.5,0,wind\n")
    with pytest.raises(ConfigError, match="start of an hour"):
        read_market(file)


def test_a_calibrated_profile_has_the_hardware_that_it_was_calibrated_on():
    assert hardware_of(calibrated_name("llama-3.1-70b@4xh100", "west-0")) == (4, "h100")

import math
from dataclasses import replace

import pytest

from router.lab.demo.savings import figures
from router.lab.study.causes import ChainOrder, SavingCause
from tests.lab.demo.days import small_day


async def test_a_saving_is_split_and_adds_up_against_every_baseline(tmp_path):
    day = await small_day(tmp_path)
    assert list(day.splits) == [run.policy for run in day.replays[1:]]
    for split in day.splits.values():
        for kind, total in split["total"].items():
            for order in ChainOrder:
                means = [split[order][cause][kind]["mean"] for cause in SavingCause]
                assert math.fsum(means) == pytest.approx(total["mean"], abs=1e-12)
        assert split["absent"]["scale_down"] == "no autoscaling in this scenario"
    hours = day.splits["static-greenest-packed"]
    assert [step["cause"] for step in hours["packing_first"]["steps"]] == ["when"]
    packing = day.splits["latency-first"]["packing_first"]["packing"]["consequential"]
    assert packing["low"] < packing["mean"] < packing["high"]


async def test_refused_requests_are_charged_to_who_refused_them(tmp_path):
    run = (await small_day(tmp_path)).replays[0]
    half = replace(run, records=run.records[::2])
    assert figures(half).fleet_g > 1.9 * figures(run).fleet_g
    assert figures(half).completed_share == pytest.approx(0.5, abs=0.01)
    none = figures(replace(run, records=()))
    assert math.isnan(none.fleet_g) and math.isnan(none.own_g)

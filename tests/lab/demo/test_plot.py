import math

from router.lab.demo.plot import nowcast
from tests.lab.demo.days import small_day


async def test_what_the_router_took_the_grid_for_is_drawn_from_every_refresh(tmp_path):
    day = await small_day(tmp_path)
    hours, known = nowcast(day, "US-CAL-CISO")
    assert len(hours) == len(known) + 1 == len(day.views) + 1
    assert (hours[0], hours[-1]) == (0.0, 24.0)
    assert hours == sorted(hours)
    for view, value in zip(day.views, known, strict=True):
        now = day.period.carbon_time(view.at_s)
        assert value == view.forecasts["US-CAL-CISO"].at(now).g_per_kwh
    assert all(math.isnan(value) for value in nowcast(day, "nowhere")[1])

"""Two pages are read at one time; one that fails is a gap."""

import pytest
from aiohttp import web

from router.errors import DataError
from router.load.calibration.live import ReadingTimes, read_live
from router.load.energy_meter import NO_READING, MeterReading
from router.load.scraper import PrometheusLoad, open_session
from tests.load.test_scraper import endpoint, serving


class Ticking:
    """A clock that goes on by a fortieth of a second with each look at it."""

    def __init__(self):
        self.ticks = 0.0

    def now(self):
        return self.ticks

    def monotonic(self):
        self.ticks += 0.025
        return self.ticks


async def test_readings_come_in_their_time_and_a_failure_is_a_gap():
    asked = 0

    async def page(_):
        nonlocal asked
        asked += 1
        if asked == 3:
            return web.Response(status=500)
        return web.Response(text=f"vllm:generation_tokens_total {asked}\n")

    async def meter():
        return MeterReading({"gpu": float(asked)}, {"gpu": 70.0})

    async with open_session() as session, serving(page) as url:
        source = PrometheusLoad(session, 5.0)
        found = await read_live(
            endpoint(url, "vllm"), source, meter, ReadingTimes(0.5, 0.1), Ticking()
        )
    assert len(found) == 5
    assert [one.at for one in found] == sorted(one.at for one in found)
    told = [one.work.answer_tokens == one.work.answer_tokens for one in found]
    assert told.count(False) == 1
    assert found[0].watts == 70.0


@pytest.mark.parametrize("text", ["up 1\n", "vllm:generation_tokens_total 5\n"])
async def test_a_page_or_a_meter_that_tells_nothing_is_told_at_once(text):
    async def page(_):
        return web.Response(text=text)

    async def meter():
        return NO_READING

    async with open_session() as session, serving(page) as url:
        source = PrometheusLoad(session, 5.0)
        what = "the meter" if "tokens" in text else "the server at"
        with pytest.raises(DataError, match=f"{what}.* tells nothing"):
            await read_live(endpoint(url, "vllm"), source, meter, ReadingTimes(5.0, 0.1), Ticking())

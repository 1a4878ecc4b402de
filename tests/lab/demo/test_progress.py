from rich.console import Console

from router.lab.demo.progress import DayProgress
from router.lab.loopback.client import CallerCounts
from router.lab.loopback.watch import GridReading
from tests.lab.demo.days import small_day


class Watch:
    def __init__(self, readings):
        self.readings = readings


async def test_a_frame_and_a_line_show_time_traffic_and_grams(tmp_path):
    day = await small_day(tmp_path)
    counts = CallerCounts()
    counts.records = [record._replace(gco2e=0.04) for record in day.live.records[:50]]
    counts.records.append(day.live.records[50]._replace(gco2e=float("nan")))
    counts.in_flight = 7
    counts.refused["shed"] = 2
    known = {name: 250.0 for name in day.fleet.regions}
    reading = GridReading(0.0, day.period.carbon_start, known, dict.fromkeys(known, "forecast"))
    progress = DayProgress(day.fleet, day.period, 900, counts, Watch([reading]))
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(progress.frame(3.0))
    frame = capture.get()
    assert "14 May 2022 19:00 UTC" in frame and "emulated" in frame
    assert "51/900 answered, 7 in flight, 2 refused" in frame
    # A receipt that does not tell its grams adds none.
    assert "2.0 gCO2e so far (receipts)" in frame
    assert all(name in frame for name in day.fleet.regions)
    assert "51/900 answered, 7 in flight, 2 refused" in progress.line(3.0)


async def test_nothing_is_known_at_first(tmp_path):
    day = await small_day(tmp_path)
    progress = DayProgress(day.fleet, day.period, 900, CallerCounts(), Watch([]))
    console = Console(width=140)
    with console.capture() as capture:
        console.print(progress.frame(0.0))
    assert "0/900 answered" in capture.get()

"""Configurations on disk, and a runtime with a director over scripted upstreams."""

from datetime import UTC, datetime
from pathlib import Path

from router.app.compose import build_limits
from router.app.loading import load
from router.app.runtime import Runtime
from router.contract import Upstream
from router.core.lengths import LengthModel
from router.core.retry import RetryBudget
from router.director import Call, Director, Dispatcher, Parts
from tests.config.samples import write
from tests.director.support import Hands, Reports, Upstreams, Watch
from tests.factories import HOUR, NOW, Dice, request

START = NOW // HOUR * HOUR
ZONES = ("US-CAL-CISO", "US-MIDA-PJM")


def stamp(when):
    """A unix time as trace files have it."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def trace(folder: Path, *rows, zones=ZONES, start=START, step_s=HOUR, name="grid.csv") -> str:
    """A table of g/kWh with one row a slot; returns its name. Blank cells: None."""
    lines = [",".join(("datetime", *zones))]
    for place, row in enumerate(rows):
        cells = ("" if value is None else str(value) for value in row)
        lines.append(",".join((stamp(start + place * step_s), *cells)))
    (folder / name).write_text("\n".join(lines) + "\n")
    return name


def configured(folder, changes=None, **trace_options):
    """A valid file whose carbon is a trace: west 100 then 300 g/kWh, east 200 then 150."""
    rows = ((90, 190), (100, 200), (300, 150), (300, 150))
    file = trace(folder, *rows, start=START - HOUR, **trace_options)
    sources = [{"kind": "trace", "file": file, "value_kind": "forecast"}]
    return write(folder, {"carbon": {"sources": sources}, **(changes or {})})


class Place:
    """A runtime and the director that it serves, with hands for a clock."""

    def __init__(self, path, script=None):
        self.path = path
        self.clock = Hands()
        self.watch = Watch()
        self.backend = Upstreams(self.clock, **(script or {}))
        self.runtime = Runtime(load(path), self.clock)

    async def open(self):
        """Take the first snapshot and let requests in, as the process does."""
        runtime = self.runtime
        config = runtime.config
        runtime.dispatcher = Dispatcher(
            await runtime.refresh(),
            Parts(
                {"oip": Upstream(self.backend, Reports())}, self.watch,
                LengthModel(config.fleet.priors, config.policy.quantile),
                RetryBudget(0.2, 10.0), self.clock, Dice(),
            ),
            build_limits(config.settings),
            "gw",
        )  # fmt: skip
        self.director = Director(runtime.dispatcher)
        return self

    @property
    def dispatcher(self):
        return self.runtime.dispatcher

    @property
    def view(self):
        return self.dispatcher.view

    def seat(self, name):
        return self.runtime.board.seats[name]

    def call(self, deadline_s=None, **changes):
        wanted = request(**{"model": "llama-3.1-8b", "origin": "west", **changes})
        return Call(wanted, b"ask", (), deadline_s)

    async def infer(self, deadline_s=None, **changes):
        return await self.director.infer(self.call(deadline_s, **changes))

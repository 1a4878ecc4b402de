"""One gateway and one fleet for the tests of a module, and what all of them measured."""

import asyncio

import pytest_asyncio

from tests.e2e.faults.fleet import FaultFleet, running_fleet
from tests.e2e.faults.returned import assert_all_returned, holdings
from tests.e2e.harness import until


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(request, tmp_path_factory):
    """The fleet of the module's PAIRS, of which each test breaks its own.

    An endpoint that fails twice in a minute is out for longer, as it should be.
    """
    module = request.module
    folder = tmp_path_factory.mktemp(module.__name__.rpartition(".")[2])
    async with running_fleet(folder, FaultFleet(module.PAIRS)) as made:
        yield made
        gateway = made.gateway
        assert await asyncio.to_thread(gateway.stop) == 0
        for trouble in ("Traceback", "never retrieved", "was destroyed", "background task died"):
            assert trouble not in gateway.log.read_text(), gateway.tail


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(running):
    """The module's gateway; afterwards nothing of the test may be left in it."""
    served = running.gateway
    await until(served.idle, "nothing being under way")
    before = await holdings(served)
    yield served
    await assert_all_returned(served, before)


def pytest_terminal_summary(terminalreporter):
    """What was promised and what was measured."""
    rows = [
        row
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, row in report.user_properties
        if name == "promise"
    ]
    if rows:
        terminalreporter.section("promised and measured", sep="-")
    for what, measured, promised, unit in sorted(rows):
        terminalreporter.line(f"{what}: {measured:.3g} {unit} (promised {promised:g})")

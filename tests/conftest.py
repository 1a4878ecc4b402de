"""What holds for every test: none fails for the time that it took; and in which order they run."""

from itertools import groupby

import pytest
from hypothesis import settings

# In force beside what Hypothesis itself sets where CI is.
settings.register_profile("patient", parent=settings.default, deadline=None)
settings.load_profile("patient")

# Tests of whole processes mostly wait; all others compute. Real servers come first, since one
# worker has them all.
REAL = "tests/real/"
WAITING = (REAL, "tests/planes/envoy/", "tests/e2e/")


def pytest_collection_modifyitems(items):
    """Files that wait among those that compute, evenly from the first to the last: so cores have
    something to do all the time, and workers end together."""
    files = [list(found) for _, found in groupby(items, key=_file)]
    waiting = [
        file for folder in WAITING for file in files if file[0].nodeid.startswith(folder)
    ]  # fmt: skip
    computing = [file for file in files if not file[0].nodeid.startswith(WAITING)]
    placed = [
        ((place + 0.5) / len(some), file)
        for some in (waiting, computing)
        for place, file in enumerate(some)
    ]
    items[:] = [item for _, file in sorted(placed, key=lambda one: one[0]) for item in file]


def _file(item):
    return item.nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """As of `--dist loadfile`, but that one worker has all that needs real servers: they are
    started once."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return REAL if nodeid.startswith(REAL) else super()._split_scope(nodeid)

    return Files(config, log) if config.getoption("dist") == "loadfile" else None

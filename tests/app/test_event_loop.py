"""The loop that a gateway process runs on: uvloop's where that can be imported."""

import asyncio
import importlib
import sys

import pytest

from router.app import event_loop


@pytest.fixture
def reimported():
    """The module, imported anew with or without uvloop."""

    def again(installed):
        with pytest.MonkeyPatch.context() as patch:
            if not installed:
                patch.setitem(sys.modules, "uvloop", None)
            return importlib.reload(event_loop)

    yield again
    importlib.reload(event_loop)


async def loop_module():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


def test_without_uvloop_it_is_asyncios_own(reimported):
    module = reimported(installed=False)
    assert (module.NAME, module.run(loop_module())) == ("asyncio", "asyncio")


def test_with_uvloop_it_is_uvloops(reimported):
    pytest.importorskip("uvloop", reason="the extra fast is not installed")
    module = reimported(installed=True)
    assert (module.NAME, module.run(loop_module())) == ("uvloop", "uvloop")


def test_what_is_raised_comes_through():
    async def fails():
        raise KeyError("x")

    with pytest.raises(KeyError):
        event_loop.run(fails())

"""Who is told what a finder finds."""

import asyncio
import contextlib

PATIENCE_S = 20.0


class Listener:
    """Keeps what it is told last."""

    def __init__(self):
        self.found_last = None
        self.why = ""
        self._told = asyncio.Event()

    def found(self, endpoints):
        self.found_last = {one.name: one for one in endpoints}
        self.why = ""
        self._told.set()

    def failed(self, why):
        self.why = why
        self._told.set()

    @property
    def addresses(self):
        if self.found_last is None:
            return None
        return {name: one.address for name, one in self.found_last.items()}

    async def until(self, holds):
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._told.clear()
                await self._told.wait()

    async def sees(self, **addresses):
        try:
            await self.until(lambda: self.addresses == addresses)
        except TimeoutError:
            raise AssertionError(f"{self.addresses}, {self.why}, not {addresses}") from None

    async def fails(self, text=""):
        await self.until(lambda: self.why and text in self.why)


@contextlib.asynccontextmanager
async def watched(finder):
    listener = Listener()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(finder.run(listener))
        yield listener
        task.cancel()

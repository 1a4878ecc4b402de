"""Debian's Chromium without a window, spoken to over its own protocol: no driver is needed."""

import asyncio
import base64
import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import aiohttp
import pytest

PATIENCE_S = 60.0
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--disable-dev-shm-usage", "--mute-audio",
    "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip


def chromium():
    """Its path; the test is skipped, loudly, where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("LOUD: Chromium is not installed, the console was looked at by nobody")
    return found


class Tab:
    """One page. ``problems``: what its console, its policy and its scripts complained of."""

    def __init__(self, socket):
        self._socket = socket
        self._number = 0
        self._waiting = {}
        self.problems = []

    async def read(self):
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                waiting = self._waiting.pop(told["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(told)
            else:
                self._note(told["method"], told["params"])

    def _note(self, method, params):
        if method == "Runtime.exceptionThrown":
            self.problems.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(params["args"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"])

    async def send(self, method, **params):
        self._number += 1
        number, answer = self._number, asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(PATIENCE_S):
            told = await answer
        assert "error" not in told, (method, told)
        return told["result"]

    async def open(self, address):
        for domain in ("Page", "Runtime", "Log"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=address)

    async def ask(self, script):
        """What ``script`` comes to, which may be a promise."""
        told = await self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, script):
        """Once ``script`` is true; its value."""
        async with asyncio.timeout(PATIENCE_S):
            while not (value := await self.ask(script)):
                await asyncio.sleep(0.05)
        return value

    async def size(self, width, height):
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    async def picture(self, path, whole=True):
        shot = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def open_tab(address, width=1440, height=900):
    """A tab at ``address``, in a browser of its own that ends with it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            chromium(), *_FLAGS, f"--user-data-dir={folder}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            port = await _port(Path(folder) / "DevToolsActivePort", process)
            async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                    pages = [one for one in await reply.json() if one["type"] == "page"]
                socket = await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
                tab = Tab(socket)
                reading = group.create_task(tab.read())
                await tab.size(width, height)
                await tab.open(address)
                yield tab
                await socket.close()
                reading.cancel()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _port(file, process):
    async with asyncio.timeout(PATIENCE_S):
        while not (file.exists() and file.read_text().strip()):
            assert process.returncode is None, "Chromium ended at once"
            await asyncio.sleep(0.05)
    return int(file.read_text().split()[0])

"""A console that is looked at leaves a page that plays it again."""

import asyncio
import base64
import gzip
import json
import re

import pytest

from router.lab.loopback.console_recording import RECORDING, ConsoleRecorder
from tests.e2e.console_scene import HostileScene
from tests.e2e.test_console import serving


@pytest.mark.timeout(60)
async def test_what_was_shown_is_in_one_page(tmp_path):
    scene = HostileScene()
    scene.publish(first=True)
    server, port = await serving(scene)
    recorder = ConsoleRecorder(f"http://127.0.0.1:{port}")
    async with asyncio.TaskGroup() as group, asyncio.timeout(30.0):
        recording = group.create_task(recorder.run())
        while len(recorder._events) < 12:
            scene.publish()
            await asyncio.sleep(0.02)
        recording.cancel()
    await server.stop()
    recorder.write(tmp_path / RECORDING)
    assert recorder.problem == ""
    text = (tmp_path / RECORDING).read_text()
    (packed,) = re.findall('id="recorded">([^<]*)<', text)
    told = json.loads(gzip.decompress(base64.b64decode(packed)))
    names = [name for _, name, _ in told["events"]]
    assert {"fleet", "grid", "deferred", "decisions", "tick"} <= set(names)
    times = [at for at, *_ in told["events"]]
    assert times == sorted(times) and times[0] == 0.0
    # Of those that have an end one was opened.
    assert len(told["decisions"]) >= 1


async def test_where_nothing_was_shown_there_is_none(tmp_path):
    recorder = ConsoleRecorder("http://127.0.0.1:1")
    async with asyncio.TaskGroup() as group:
        recording = group.create_task(recorder.run())
        await asyncio.sleep(0)
        recording.cancel()
    recorder.write(tmp_path / RECORDING)
    assert recorder.problem and not (tmp_path / RECORDING).exists()

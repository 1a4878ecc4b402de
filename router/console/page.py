"""The page as one file: markup, style and script put together once, compressed and named by what
they are, with a policy by which a browser runs nothing else."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

import msgspec

# In the order in which they are read.
SCRIPTS: Final = (
    "words.js", "figures.js", "feed.js", "draw.js", "parts.js", "deferred.js", "past.js",
    "recording.js", "console.js",
)  # fmt: skip
STYLE: Final = "style.css"
MARKUP: Final = "page.html"

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class ConsolePage:
    """``compressed``: ``body`` by gzip; ``headers`` of both."""

    body: bytes
    compressed: bytes
    etag: str
    headers: Mapping[str, str]


@lru_cache(1)
def page() -> ConsolePage:
    """The page that is shipped."""
    folder = resources.files("router.console") / "assets"
    return built(
        _text(folder, MARKUP),
        _text(folder, STYLE),
        "\n".join(_text(folder, name) for name in SCRIPTS),
    )


def built(markup: str, style: str, script: str) -> ConsolePage:
    """``markup`` has the places ``<!--style-->`` and ``<!--script-->``."""
    script = _scoped(script)
    style = f"\n{style}"
    text = markup.replace("<!--style-->", f"<style>{style}</style>", 1)
    text = text.replace("<!--recorded-->", "", 1)
    text = text.replace("<!--script-->", f"<script>{script}</script>", 1)
    body = text.encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        f"script-src {_hash(script)}; style-src {_hash(style)}"
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
        "ETag": etag,
    }
    # The same bytes wherever it is built: no time in them.
    return ConsolePage(body, gzip.compress(body, 9, mtime=0), etag, headers)


def recorded_page(recording: Mapping[str, object]) -> bytes:
    """The page with a day in it, as one file that asks nobody and plays by itself; ``recording``:
    ``events`` (s since the first, name, data) and ``decisions``, by key."""
    folder = resources.files("router.console") / "assets"
    script = _scoped("\n".join(_text(folder, name) for name in SCRIPTS))
    style = f"\n{_text(folder, STYLE)}"
    packed = base64.b64encode(gzip.compress(_encoder.encode(recording), 9, mtime=0)).decode()
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"require-trusted-types-for 'script'; script-src {_hash(script)}; style-src {_hash(style)}"
    )
    held = f'<script type="application/json" id="recorded">{packed}</script>'
    text = _text(folder, MARKUP)
    meta = '<meta charset="utf-8">'
    guarded = f'{meta}\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    text = text.replace(meta, guarded, 1).replace("<!--style-->", f"<style>{style}</style>", 1)
    text = text.replace("<!--recorded-->", held, 1)
    return text.replace("<!--script-->", f"<script>{script}</script>", 1).encode()


def _scoped(script: str) -> str:
    """One scope of its own; nothing of it is seen from elsewhere."""
    return f'"use strict";\n(() => {{\n{script}\n}})();\n'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(folder: Traversable, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")

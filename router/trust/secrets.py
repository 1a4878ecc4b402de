"""Keys and passwords: read from the environment or a file, never shown."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from router.errors import ConfigError

_MOST_BYTES: Final = 8192
# A shorter overlap with a secret says nothing of it: grid zones have two letters and more.
_TELLING: Final = 4
_PART: Final = 8
_SHOWN: Final = 40


class Secret:
    """A string that shows as ``***`` wherever it is printed or logged."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself, for the one place that sends it."""
        return self._text

    def equals(self, text: str) -> bool:
        """Whether ``text`` is the secret; takes as long whatever it is."""
        return hmac.compare_digest(self._text.encode(), text.encode(errors="replace"))

    def is_told_by(self, text: str) -> bool:
        """Whether ``text`` holds the secret, or a telling part of it."""
        if len(text) < _TELLING:
            return bool(self._text) and self._text in text
        length = min(_PART, len(self._text), len(text))
        parts = (text[i : i + length] for i in range(len(text) - length + 1))
        return length > 0 and any(part in self._text for part in parts)

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret is not to be stored or sent to another process")


def shown(value: object, *secrets: Secret) -> str:
    """A part of a provider's answer fit for an error message: short, and none of ``secrets``."""
    if isinstance(value, str):
        text = value
    else:
        # The repr of a deeply nested answer would not end well.
        plain = value is None or isinstance(value, int | float)
        text = str(value) if plain else type(value).__name__
    if any(secret.is_told_by(text) for secret in secrets):
        return "***"
    return repr(text if len(text) <= _SHOWN else type(value).__name__)


def without_secret(text: str, secret: Secret | None) -> str:
    """``text`` of somebody who was sent ``secret``; stars where it tells of it."""
    return "***" if secret is not None and secret.is_told_by(text) else text


def without_secrets(
    fields: Sequence[tuple[str, str | bytes]], secret: Secret | None
) -> tuple[tuple[str, str | bytes], ...]:
    """Header fields of somebody who was sent ``secret``, without those that hold it."""
    if secret is None:
        return tuple(fields)
    text = secret.reveal()
    raw = text.encode()
    return tuple(
        (name, value)
        for name, value in fields
        if not (raw in value if isinstance(value, bytes) else text in value)
    )


def read_secret(
    config: str, key: str, *, env: str = "", file: Path | None = None, environ: Mapping[str, str]
) -> Secret:
    """The secret named in ``config`` under ``key``: environment variable ``env`` or ``file``.

    White space around it is dropped. Raises ConfigError, which names the variable or file and
    never its content, when it is missing, empty or cannot be sent in a header.
    """
    if bool(env) == (file is not None):
        raise _error(config, key, "name either an environment variable or a file to read it from")
    where = f"environment variable {env}" if env else f"file {file}"
    text = environ.get(env) if file is None else _content(config, key, file)
    if text is None:
        raise _error(config, key, f"{where} is not set; export it, or name a file instead")
    text = text.strip()
    if not text:
        raise _error(config, key, f"{where} is empty; put the key there")
    if len(text) > _MOST_BYTES or not text.isprintable():
        raise _error(config, key, f"{where} does not hold one line of printable text")
    return Secret(text)


def _content(config: str, key: str, file: Path) -> str:
    problem = ""
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_BYTES + 2).decode()
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise _error(config, key, f"file {file} {problem}")


def _error(config: str, key: str, text: str) -> ConfigError:
    return ConfigError(config, [(key, text)])

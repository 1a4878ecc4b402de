"""Certificates and keys in force, as the files that Envoy takes them from.

`router.trust` reads what operators put in place, checks it and keeps the last that was good; each
of those is written here as a whole, by a rename, for which Envoy watches (SDS). They lie in the
run's folder, in memory, that this user alone may read.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from router.config.settings import Config
from router.planes.envoy.tls import BELIEVED, SHOWN, stem_of
from router.trust.access import AccessTable
from router.trust.contexts import ServerTls, host_roots
from router.trust.pem import PemMaterial
from router.trust.watched import Watched

_SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


class _Source(NamedTuple):
    stem: str
    source: Watched[PemMaterial]
    is_listener: bool


class TlsFiles:
    """Of one run. ``folder``: where they are; ``server``, ``access``: what is in force of what is
    listened on, and towards endpoints."""

    def __init__(
        self, folder: Path, config: Config, server: ServerTls | None, access: AccessTable
    ) -> None:
        self._folder = folder
        self._config = config
        self._server = server
        self._access = access
        self._written: dict[str, bytes] = {}

    @property
    def is_behind(self) -> bool:
        """Whether something else is in force by now."""
        return any(
            self._written.get(one.stem) != one.source.value.digest for one in self._sources()
        )

    def write(self) -> None:
        """Put in place what is in force and is not there yet. Blocks; raises OSError."""
        for stem, source, is_listener in self._sources():
            material = source.value
            if self._written.get(stem) == material.digest:
                continue
            self._folder.mkdir(mode=0o700, exist_ok=True)
            roots = material.roots
            if not roots and not is_listener:
                roots = host_roots() or b""
            if roots:
                self._put(stem, BELIEVED, {"validation_context": {"trusted_ca": _inline(roots)}})
            if material.chain:
                shown = {
                    "certificate_chain": _inline(material.chain),
                    "private_key": _inline(material.key),
                }
                self._put(stem, SHOWN, {"tls_certificate": shown})
            self._written[stem] = material.digest

    def _sources(self) -> Iterator[_Source]:
        settings = self._config.settings
        if settings.server.tls is not None and self._server is not None:
            yield _Source(stem_of(settings.server.tls.files), self._server.source, True)
        for address, access in settings.access.items():
            security = self._access.security(address)
            if access.tls is not None and security is not None:
                yield _Source(stem_of(access.tls.files), security.source, False)

    def _put(self, stem: str, what: str, secret: dict[str, Any]) -> None:
        resource = {"@type": _SECRET, "name": what, **secret}
        path = self._folder / f"{stem}-{what}.json"
        aside = path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        # Nobody else may read it from its first byte on.
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"resources": [resource]}, file)
        aside.replace(path)


def _inline(pem: bytes) -> dict[str, str]:
    return {"inline_bytes": base64.b64encode(pem).decode()}

"""All that one process listens on: its fronts, and the admin page."""

from __future__ import annotations

from pathlib import Path

from router.app.fronts import Carrier
from router.config.settings import ServerSettings
from router.errors import ConfigError
from router.telemetry.admin import AdminServer


class Listeners:
    """``fronts`` take requests, ``admin`` tells of them until the last one has ended."""

    def __init__(
        self,
        fronts: Carrier,
        admin: AdminServer,
        server: ServerSettings,
        reuse_port: bool,
        config_path: Path,
    ) -> None:
        """``config_path``: named where an address cannot be had."""
        self._fronts = fronts
        self._admin = admin
        self._address = server.admin
        self._reuse_port = reuse_port
        self._config_path = config_path

    async def open(self) -> dict[str, int]:
        """Listen; the ports. Raises ConfigError for an address that cannot be had, and listens
        nowhere then."""
        try:
            ports = await self._fronts.start()
        except ConfigError as error:
            raise ConfigError(str(self._config_path), error.problems) from error
        try:
            return {**ports, "admin_port": await self._open_admin()}
        except ConfigError:
            await self._fronts.drain(0.0)
            raise

    async def drain(self, at_most_s: float) -> None:
        """Take no more requests, and wait for those under way."""
        await self._fronts.drain(at_most_s)

    async def close(self) -> None:
        """Tell nothing any more."""
        await self._admin.stop()

    async def _open_admin(self) -> int:
        host, _, port = self._address.rpartition(":")
        try:
            return await self._admin.start(host.strip("[]"), int(port), reuse_port=self._reuse_port)
        except OSError as error:
            problem = f"cannot listen on {self._address}: {error.strerror or error}"
            raise ConfigError(str(self._config_path), [("server.admin", problem)]) from error

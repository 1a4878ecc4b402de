"""What `check --envoy` says: what of a configuration Envoy does otherwise, or not at all."""

from __future__ import annotations

from router.config.settings import Config
from router.planes.envoy.envoy_process import envoy_program
from router.planes.envoy.support import keeps_prompts, notes, require_supported


def envoy_notes(config: Config) -> list[str]:
    """Raises ConfigError for what `carbon-router envoy` would refuse, and EnvoyPlaneError where
    there is no Envoy that it could start."""
    require_supported(config)
    envoy_program()
    found = [f"through Envoy: {one}" for one in notes(config)]
    keeping = sorted(
        {
            served.name
            for endpoint in config.fleet.endpoints
            for served in endpoint.models
            if keeps_prompts(served)
        }
    )
    if keeping:
        found.append(
            f"through Envoy: passed on, at the native gateway's price: {', '.join(keeping)}, "
            "of which servers keep prompts"
        )
    if config.fleet.aliases:
        names = ", ".join(sorted(config.fleet.aliases))
        found.append(f"through Envoy: passed on, as aliases are: {names}")
    return found

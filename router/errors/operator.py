"""What an operator has to mend: a file, or a service that a gateway leans on."""

from __future__ import annotations

from collections.abc import Sequence

from router.errors.root import CarbonRouterError


class ConfigError(CarbonRouterError):
    """An operator's file is wrong. ``problems`` lists every defect found, not just the first."""

    reason = "config_invalid"

    def __init__(self, file: str, problems: Sequence[tuple[str, str]]) -> None:
        """``problems``: (key path such as ``endpoints[2].url``, what is wrong and its fix)."""
        self.file = file
        self.problems = tuple(problems)
        lines = [f"{file}: {key}: {text}" if key else f"{file}: {text}" for key, text in problems]
        super().__init__("\n".join(lines))


class StateStoreError(CarbonRouterError):
    """What several gateways share cannot be had now; each serves on what it knows itself."""

    reason = "state_store"

    def __init__(self, message: str, cause: str = "other") -> None:
        """``cause``: one of a few stable words, such as ``timeout`` or ``denied``."""
        super().__init__(message)
        self.cause = cause


class HintNotTakenError(CarbonRouterError):
    """Whoever is told how many replicas are wanted did not take it."""

    reason = "hint_not_taken"


class EnvoyPlaneError(CarbonRouterError):
    """Envoy is not installed, is another version, or the module that it loads cannot be had."""

    reason = "envoy_plane"


class JudgeError(CarbonRouterError):
    """Whoever is to judge answers of an alias gave no verdict."""

    reason = "judge_failed"

"""Configuration: text in, values out, no side effects but reading the files that are named.

``load(path, live)`` is all that callers need; ``router.app.loading`` knows every live provider.
"""

from router.config.build import load
from router.config.fields import format_time, parse_day_or_time, parse_time, split_address
from router.config.loading import shipped_policies, shipped_profiles
from router.config.settings import (
    CarbonSettings,
    ClimatologySpec,
    ClockSettings,
    Config,
    HealthSettings,
    HistorySpec,
    LiveSpec,
    LoadSettings,
    RetrySettings,
    SecretSpec,
    ServerSettings,
    Settings,
    SourceSpec,
    StaticSpec,
    TraceSpec,
    WeatherSpec,
)

__all__ = [
    "CarbonSettings",
    "ClimatologySpec",
    "ClockSettings",
    "Config",
    "HealthSettings",
    "HistorySpec",
    "LiveSpec",
    "LoadSettings",
    "RetrySettings",
    "SecretSpec",
    "ServerSettings",
    "Settings",
    "SourceSpec",
    "StaticSpec",
    "TraceSpec",
    "WeatherSpec",
    "format_time",
    "load",
    "parse_day_or_time",
    "parse_time",
    "shipped_policies",
    "shipped_profiles",
    "split_address",
]

"""docs/extending.md: the provider that it shows works as it stands, from a package of its own."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from router.app.carbon.build import build_carbon
from router.app.carbon.live import ProviderDeps, Sessions
from router.app.loading import load
from router.carbon.providers.provider import Reading, Want
from router.model import Kind
from tests.carbon.http_support import Asked, StillClock, StubHttp
from tests.carbon.packages import install
from tests.config.samples import write

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
if not PAGE.exists():
    pytest.skip("DOCS NOT TRIED: they are not part of this distribution", allow_module_level=True)

T0 = 1_652_486_400.0  # 2022-05-14T00:00Z
ROWS = [
    {"start": "2022-05-13T22:00Z", "g_per_kwh": 212.5},
    {"start": "2022-05-13T23:00Z", "g_per_kwh": "many"},
    {"start": "2022-05-14T00:00Z", "g_per_kwh": 198},
]


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


async def test_the_provider_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (group, name, value) = re.findall(r'"([^"]+)"\]\n(\w+) = "([^"]+)"', block("toml"))[0]
    points = f"[{group}]\n{name} = {value}\n"
    install(tmp_path / "site", monkeypatch, "gridly", block("python"), points)
    sources = [{"kind": "gridly", "key_env": "GRIDLY_KEY"}, {"kind": "static"}]
    settings = load(write(tmp_path, {"carbon": {"sources": sources}})).settings.carbon
    deps = ProviderDeps(StillClock(), random.Random(1), {"GRIDLY_KEY": "k-3f9a"}, Sessions())
    provider: Any = build_carbon(settings, T0, deps).members[0].provider
    assert provider.grid_zones == {"DE", "FR"}
    http = provider._http = StubHttp(lambda asked: {"rows": ROWS})
    found = (await provider.fetch(["DE"], Want.HISTORY, T0 + 60.0, 24))["DE"]
    assert isinstance(found, Reading)
    told = [(value.g_per_kwh, value.kind, value.observed_at) for value in found.observed]
    assert told == [
        (212.5, Kind.ESTIMATED, T0 - 3600.0),
        (198.0, Kind.ESTIMATED, T0 + 3600.0),
    ]
    assert [dropped.rows for dropped in found.dropped] == [1]
    asked: Asked = http.asked[0]
    assert (asked.params, asked.headers) == (
        {"area": "germany", "hours": "24"}, {"x-api-key": "k-3f9a"},
    )  # fmt: skip

"""aioelectricitymaps: ``em_aio.py URL KEY ZONE...``."""

import asyncio
import dataclasses
import sys
from typing import Any

from aioelectricitymaps import CoordinatesRequest, ElectricityMaps, ZoneRequest
from aioelectricitymaps.const import API_BASE_URL, ApiEndpoints
from outcome import outcome_of, tell


async def plain(call: Any) -> Any:
    answer = await call
    if isinstance(answer, dict):
        return {name: dataclasses.asdict(zone) for name, zone in answer.items()}
    return dataclasses.asdict(answer)


async def main(url: str, key: str, zones: list[str]) -> None:
    for name, value in vars(ApiEndpoints).items():
        if isinstance(value, str) and value.startswith(API_BASE_URL):
            setattr(ApiEndpoints, name, value.replace(API_BASE_URL, f"{url}/v3"))
    told: dict[str, Any] = {}
    async with ElectricityMaps(token=key) as asked:
        for zone in zones:
            where = ZoneRequest(zone)
            told[zone] = {
                "latest": await outcome_of(plain(asked.latest_carbon_intensity(where))),
                "history": await outcome_of(plain(asked.carbon_intensity_history(where))),
                "home": await outcome_of(plain(asked.carbon_intensity_for_home_assistant(where))),
            }
        berlin = CoordinatesRequest(lat="52.5", lon="13.4")
        told["coordinates"] = await outcome_of(plain(asked.latest_carbon_intensity(berlin)))
        told["zones"] = await outcome_of(plain(asked.zones()))
    tell(**told)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))

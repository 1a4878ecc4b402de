"""Every fault at every provider that it can hit: what is served instead, of which kind and age.

The provider is well at first; then the fault sets in, stays for hours, and goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest

from router.model import Kind
from tests.carbon.fault_providers import BEGIN, CASES, SECRETS, Case
from tests.carbon.fault_rig import Rig, assert_well, close, running
from tests.fakes.faults import Fault, What
from tests.fakes.world import HOUR

# entsoe-py sorts in a way that pandas is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

ALL = frozenset(CASES)
KEYED = frozenset(name for name, case in CASES.items() if case.keyed)
EM, WT, GB = "electricity_maps", "watttime", "gb_carbon_intensity"
LASTING_H = 3
BROKEN = "provider_answer"


class Hit(NamedTuple):
    """A fault, whom it hits, and the reason and words that the attempt must give.

    ``of``: reason and words where a provider's differ. ``ahead``: who goes on forecasting.
    """

    fault: Fault
    hits: frozenset[str]
    code: str
    words: str
    of: Mapping[str, tuple[str, str]] = MappingProxyType({})
    ahead: frozenset[str] = frozenset()


HITS = {
    "wrong key": Hit(Fault(What.KEY_REVOKED), KEYED, "provider_refused", "the key is wrong"),
    "outside the plan": Hit(
        Fault(What.OUTSIDE_PLAN), KEYED, "provider_refused", "plan does not include this",
        {"entsoe": ("provider_refused", "not enabled")},
    ),
    "busy": Hit(Fault(What.TOO_MANY), ALL, "provider_busy", "called too often"),
    "null": Hit(
        Fault(What.NULL), ALL - {"entsoe"}, "provider_no_data", "value in the last",
        {
            EM: ("provider_no_data", "carbonIntensity is null"),
            "energy_charts": ("provider_no_data", "co2eq has no value"),
            "eia": ("provider_no_data", "nothing was generated, or nothing reported"),
        },
        # Their actual values are null; what lies ahead is not.
        frozenset({GB, "energy_charts"}),
    ),
    "no data": Hit(
        Fault(What.NO_DATA), ALL, "provider_no_data", "nothing there for this place and time",
        {
            "eia": ("provider_no_data", "no generation is reported"),
            "entsoe": ("provider_no_data", "no matching data"),
        },
    ),
    "no rows": Hit(
        Fault(What.NO_ROWS), ALL - {EM}, "provider_no_data", "value in the last",
        {
            "energy_charts": ("provider_no_data", "co2eq has no value"),
            "eia": ("provider_no_data", "no generation is reported"),
            "entsoe": ("provider_no_data", "no matching data"),
        },
    ),
    "wrong zone": Hit(
        Fault(What.WRONG_ZONE), frozenset({EM, WT, "eia", "entsoe"}), BROKEN, "answered for"
    ),
    "other factors": Hit(
        Fault(What.OTHER_FACTORS), frozenset({EM}), BROKEN,
        "answered with 'direct' emission factors, asked for lifecycle", ahead=frozenset({EM}),
    ),
    "percentile": Hit(
        Fault(What.OTHER_UNIT), frozenset({WT}), BROKEN,
        "units are 'percentile', not lbs_co2_per_mwh",
    ),
    "time without a zone": Hit(
        Fault(What.NAIVE_TIME), frozenset({EM, WT}), BROKEN, "is not in UTC"
    ),
    "500": Hit(Fault(What.SERVER_ERROR), ALL, "provider_unavailable", "HTTP 500"),
    "503": Hit(Fault(What.SERVER_ERROR, status=503), ALL, "provider_unavailable", "HTTP 503"),
    "dead": Hit(Fault(What.DEAD), ALL, "provider_unavailable", "connection failed"),
    "truncated": Hit(
        Fault(What.TRUNCATED), ALL, BROKEN, "cut off",
        {"entsoe": ("provider_unavailable", "connection failed")},
    ),
    "invalid": Hit(
        Fault(What.INVALID), ALL, BROKEN, "no valid JSON",
        {"entsoe": (BROKEN, "no whole XML document")},
    ),
    "html": Hit(
        Fault(What.HTML), ALL, BROKEN, "no valid JSON",
        {"entsoe": (BROKEN, "does not say for which area")},
    ),
    "empty": Hit(
        Fault(What.EMPTY), ALL, BROKEN, "is empty",
        {"entsoe": (BROKEN, "does not say for which area")},
    ),
    "huge": Hit(Fault(What.HUGE), ALL, BROKEN, "larger than"),
}  # fmt: skip
PAIRS = [(name, hit) for hit in HITS for name in sorted(HITS[hit].hits)]


def assert_no_secret(rig: Rig) -> None:
    for attempt in rig.chain.attempts[rig.case.zone]:
        assert not any(secret in attempt.why for secret in SECRETS)


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


async def test_all_is_well(case: Case) -> None:
    async with running(case, start=BEGIN) as rig:
        await rig.refresh()
        await assert_well(rig)
        await rig.live(3)
        await assert_well(rig)
        slot = rig.slot()
        assert slot.kind in (Kind.ESTIMATED, Kind.FORECAST)
        if case.ahead is not None:
            assert slot.low_g_per_kwh <= rig.truth() <= slot.high_g_per_kwh


@pytest.mark.parametrize(("name", "hit"), PAIRS)
async def test_a_fault_leaves_the_last_known_good(name: str, hit: str) -> None:
    fault, _, code, words, of, ahead = HITS[hit]
    code, words = of.get(name, (code, words))
    async with running(CASES[name], start=BEGIN) as rig:
        # Above each one's limit.
        rig.fake.huge_bytes = (20 if name == "entsoe" else 2) << 20
        await rig.refresh()
        await rig.live(0.5)
        await assert_well(rig)
        good, well_until = await rig.newest(), rig.now
        rig.fake.faults.append(fault)
        for _ in range(LASTING_H):
            await rig.live(1, every_s=HOUR)
            assert await rig.newest() == good, "nothing newer came, and its age is not made up"
            attempt, slot = rig.attempt(), rig.slot()
            assert attempt.code == code
            assert words in attempt.why
            assert attempt.age_s == rig.now - good.observed_at
            assert_no_secret(rig)
            # What is served is a forecast: its last one, or else what its last value lets expect.
            expected = rig.published(well_until)
            assert (slot.kind, slot.signal) == (Kind.FORECAST, rig.case.signal)
            if expected is None:
                assert slot.g_per_kwh == good.g_per_kwh
                assert slot.source == f"persistence({good.source})"
                assert slot.age_s(rig.now) == rig.now - good.observed_at
            elif name in ahead:
                assert slot.source == name
                assert slot.age_s(rig.now) <= 4.5 * HOUR
                assert slot.low_g_per_kwh <= rig.truth() <= slot.high_g_per_kwh
            else:
                assert close(slot.g_per_kwh, expected.g_per_kwh)
                assert slot.source == name
                assert slot.age_s(rig.now) == rig.now - expected.observed_at
            assert 0.0 < slot.low_g_per_kwh < slot.g_per_kwh < slot.high_g_per_kwh
        rig.fake.faults.clear()
        # A key that was refused rests for over six hours.
        await rig.live(8, every_s=4 * HOUR)
        await assert_well(rig)

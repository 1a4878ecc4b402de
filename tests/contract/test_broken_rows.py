"""What every provider promises of a broken row: it costs itself, and no other. Add one to CASES."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.carbon.providers.eia import Eia
from router.carbon.providers.electricity_maps import ElectricityMaps
from router.carbon.providers.energy_charts import EnergyCharts
from router.carbon.providers.entsoe import Entsoe
from router.carbon.providers.entsoe_transport import Document
from router.carbon.providers.gb import GreatBritain
from router.carbon.providers.holes import is_stated
from router.carbon.providers.provider import Provider, Reading, Want
from router.carbon.providers.watttime import WattTime
from router.errors import ProviderAnswerError, ProviderError
from router.model import Factors
from router.trust.secrets import Secret
from tests.carbon.http_support import StubHttp
from tests.examples import examples
from tests.fakes.world import World

# entsoe-py sorts in a way that pandas is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

NOW = 1_652_486_400.0 + 600.0  # 2022-05-14T00:10Z
HOUR = 3600.0
ROWS = 24
KEY = Secret("k-3f9a71c2e5")
DE_LU = "10Y1001A1001A82H"
# What is put in the place of a value, of a stamp, and of a whole row.
VALUES: list[Any] = [
    -1, -316.5, "--", "n/a", "", True, [], {}, 1e9, 1e300, float("nan"), float("inf"), 10**30,
    "1,5", "12 g",
]  # fmt: skip
STAMPS: list[Any] = [None, "", "yesterday", 5, [], "2022-13-01T00:00Z", "0001-01-01T00:00", True]
WHOLE: list[Any] = [None, 5, "row", []]


def iso(when: float, form: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    return datetime.fromtimestamp(when, UTC).strftime(form)


@dataclass(frozen=True)
class Case:
    """One provider and one of its answers. ``listed``: the rows of an answer, to be changed in
    place. ``value``, ``stamp``: puts a cell into a row. ``start``: of a row's slot.
    """

    answer: Callable[[], Any]
    listed: Callable[[Any], list[Any]]
    value: Callable[[Any, Any], None]
    stamp: Callable[[Any, Any], None]
    provider: Callable[[Any], Provider]
    zone: str
    want: Want
    start: Callable[[Any], float]


def put(*path: str) -> Callable[[Any, Any], None]:
    def change(row: Any, cell: Any) -> None:
        for step in path[:-1]:
            row = row[step]
        row[path[-1]] = cell

    return change


def stub(answer: Any) -> StubHttp:
    return StubHttp(lambda asked: answer)


def parsed(name: str) -> Callable[[Any], float]:
    return lambda row: datetime.fromisoformat(row[name]).timestamp()


def electricity_maps(want: Want) -> Case:
    first = NOW - 600.0 - (ROWS - 1) * HOUR if want is Want.HISTORY else NOW - 600.0
    key = "history" if want is Want.HISTORY else "forecast"

    def answer() -> Any:
        rows = [
            {"zone": "DE", "datetime": iso(first + i * HOUR), "carbonIntensity": 300 + i,
             "emissionFactorType": "lifecycle", "isEstimated": True}
            for i in range(ROWS)
        ]  # fmt: skip
        return {"zone": "DE", "temporalGranularity": "hourly", key: rows}

    def provider(body: Any) -> Provider:
        return ElectricityMaps(stub(body), {"DE": "DE"}, key=KEY, factors=Factors.LIFECYCLE)

    return Case(
        answer, lambda body: body[key], put("carbonIntensity"), put("datetime"), provider, "DE",
        want, parsed("datetime"),
    )  # fmt: skip


def gb(want: Want) -> Case:
    first = NOW - 600.0 - (0.0 if want is Want.FORECAST else (ROWS - 1) * 1800.0)

    def answer() -> Any:
        rows = []
        for i in range(ROWS):
            start = first + i * 1800.0
            past = want is Want.HISTORY
            figures = {"forecast": 160 + i, "actual": 150 + i if past else None}
            rows.append({"from": iso(start), "to": iso(start + 1800.0), "intensity": figures})
        return {"data": rows}

    return Case(
        answer,
        lambda body: body["data"],
        put("intensity", "forecast" if want is Want.FORECAST else "actual"),
        put("from"),
        lambda body: GreatBritain(stub(body), {"GB": "national"}),
        "GB",
        want,
        parsed("from"),
    )


def watttime(want: Want) -> Case:
    first = NOW - (0.0 if want is Want.FORECAST else (ROWS - 1) * 300.0)

    def answer() -> Any:
        rows = [{"point_time": iso(first + i * 300.0), "value": 800.0 + i} for i in range(ROWS)]
        meta = {"region": "R", "units": "lbs_co2_per_mwh", "signal_type": "co2_moer"}
        return {"data": rows, "meta": meta}

    def provider(body: Any) -> Provider:
        login = StubHttp(lambda asked: {"token": "t-91"})
        return WattTime(stub(body), login, {"CA": "R"}, user="u", password=KEY)

    return Case(
        answer, lambda body: body["data"], put("value"), put("point_time"), provider, "CA", want,
        parsed("point_time"),
    )  # fmt: skip


class Columns:
    """Rows of an answer that has columns; energy-charts."""

    def __init__(self, want: Want) -> None:
        self.first = NOW - 600.0 - (0.0 if want is Want.FORECAST else (ROWS - 1) * 900.0)
        self.column = "co2eq_forecast" if want is Want.FORECAST else "co2eq"

    def provider(self, rows: Any) -> Provider:
        answer = {
            "unix_seconds": [row["at"] for row in rows],
            "co2eq": [None] * len(rows),
            "co2eq_forecast": [None] * len(rows),
            self.column: [row["value"] for row in rows],
        }
        return EnergyCharts(stub(answer), {"DE": "de"}, factors=Factors.LIFECYCLE)

    def rows(self) -> Any:
        return [{"at": self.first + i * 900.0, "value": 200.0 + i} for i in range(ROWS)]


def energy_charts(want: Want) -> Case:
    columns = Columns(want)
    return Case(
        columns.rows, lambda rows: rows, put("value"), put("at"), columns.provider, "DE", want,
        lambda row: float(row["at"]),
    )  # fmt: skip


def eia(want: Want) -> Case:
    last = NOW - 600.0 - HOUR

    def answer() -> Any:
        rows = []
        for i in range(ROWS):
            for fuel, mwh in (("NG", 600 + 7 * i), ("COL", 300), ("WND", 100)):
                end = iso(last - i * HOUR, "%Y-%m-%dT%H")
                rows.append({"period": end, "respondent": "CISO", "fueltype": fuel,
                             "value": str(mwh), "value-units": "megawatthours"})  # fmt: skip
        return {"response": {"frequency": "hourly", "data": rows}}

    return Case(
        answer,
        lambda body: body["response"]["data"],
        put("value"),
        put("period"),
        lambda body: Eia(stub(body), {"CA": "CISO"}, key=KEY, factors=Factors.LIFECYCLE),
        "CA",
        want,
        lambda row: datetime.fromisoformat(f"{row['period']}:00+00:00").timestamp() - HOUR,
    )


class Documents:
    """Points of ENTSO-E's XML as rows; of curve type A03, whose left-out points repeat."""

    def __init__(self, rows: Any) -> None:
        self.headers: dict[str, str] = {}
        self.rows = rows

    def get(self, url: str, params: Mapping[str, Any], **_: Any) -> Document:
        start = NOW - 600.0 - ROWS * HOUR
        series = []
        for psr in ("B04", "B05"):
            points = "".join(
                f"<Point><position>{row['at']}</position><quantity>{row['value']}</quantity></Point>"
                for row in self.rows
                if row["psr"] == psr
            )
            series.append(
                f'<TimeSeries><mRID>1</mRID><inBiddingZone_Domain.mRID codingScheme="A01">{DE_LU}'
                f"</inBiddingZone_Domain.mRID><curveType>A03</curveType><MktPSRType><psrType>{psr}"
                f"</psrType></MktPSRType><Period><timeInterval><start>{iso(start)}</start>"
                f"<end>{iso(start + ROWS * HOUR)}</end></timeInterval><resolution>PT60M"
                f"</resolution>{points}</Period></TimeSeries>"
            )
        head = '<GL_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-6:generationload:3:0">'
        body = "".join(series)
        return Document(200, {"Content-Type": "text/xml"}, f"{head}{body}</GL_MarketDocument>")


def entsoe(want: Want) -> Case:
    def rows() -> Any:
        return [
            {"psr": psr, "at": i + 1, "value": mw + (7 * i if psr == "B04" else 0)}
            for psr, mw in (("B04", 600), ("B05", 300))
            for i in range(ROWS)
        ]

    def provider(found: Any) -> Provider:
        made = Entsoe({"DE": "DE_LU"}, key=KEY, factors=Factors.LIFECYCLE, clock=World(NOW))
        made._transport = Documents(found)
        return made

    return Case(
        rows, lambda found: found, put("value"), put("at"), provider, "DE", want,
        lambda row: NOW - 600.0 - (ROWS + 1 - int(row["at"])) * HOUR,
    )  # fmt: skip


PUBLISHERS = (electricity_maps, gb, watttime, energy_charts)
CASES = {
    **{f"{of.__name__} history": of(Want.HISTORY) for of in PUBLISHERS},
    **{f"{of.__name__} forecast": of(Want.FORECAST) for of in PUBLISHERS},
    "eia": eia(Want.HISTORY),
    "entsoe": entsoe(Want.HISTORY),
}
# XML has no types; and a row that is no row is no XML, and not in columns either.
WORDS_ONLY = frozenset({"entsoe"})
# Plants at rest draw a little power: -1 MW is a report.
BAD_VALUES = {"eia": VALUES[1:], "entsoe": VALUES[1:5]}
NO_OBJECTS = frozenset({"entsoe", "energy_charts history", "energy_charts forecast"})


async def read(case: Case, answer: Any) -> tuple[dict[float, float], Reading]:
    """g/kWh by start of slot, as stated."""
    found = (await case.provider(answer).fetch([case.zone], case.want, NOW, ROWS))[case.zone]
    assert isinstance(found, Reading)
    if case.want is Want.FORECAST:
        assert found.forecast is not None
        start, step_s = found.forecast.start, found.forecast.step_s
        slots = enumerate(found.forecast.slots)
        return {start + i * step_s: s.g_per_kwh for i, s in slots if is_stated(s)}, found
    ends = [value.observed_at for value in found.observed]
    step_s = min(later - earlier for earlier, later in pairwise(ends))
    return {value.observed_at - step_s: value.g_per_kwh for value in found.observed}, found


def broken(name: str, answer: Any, places: set[int], rng: random.Random) -> None:
    """Break the rows at ``places``, each in its own way."""
    case, typed = CASES[name], name not in WORDS_ONLY
    rows = case.listed(answer)
    again = []
    for place in sorted(places):
        way = rng.randrange(3 if name in NO_OBJECTS else 4)
        if way == 0:
            case.value(rows[place], rng.choice(BAD_VALUES.get(name, VALUES)))
        elif way == 1:
            case.stamp(rows[place], rng.choice(STAMPS if typed else STAMPS[:3]))
        elif way == 2:
            twin = {**rows[place]}
            if isinstance(twin.get("intensity"), dict):
                twin["intensity"] = {**twin["intensity"]}
            case.value(twin, 5.5 if rng.random() < 0.5 else 77)
            again.append((place, twin))
        else:
            rows[place] = rng.choice(WHOLE)
    for place, twin in reversed(again):
        rows.insert(place + 1, twin)


@pytest.mark.parametrize("name", sorted(CASES))
@given(seed=st.integers(0, 2**32), places=st.sets(st.integers(0, ROWS - 1), max_size=ROWS // 3))
@example(seed=0, places=set(range(1, 16, 2)))
@example(seed=1, places=set(range(0, ROWS, 3)))
@settings(deadline=None, max_examples=examples(15))
async def test_broken_rows_cost_their_slots_and_no_others(
    name: str, seed: int, places: set[int]
) -> None:
    case, rng = CASES[name], random.Random(seed)
    clean, whole = await read(case, case.answer())
    assert not whole.dropped and len(clean) == ROWS
    answer = case.answer()
    rows = case.listed(answer)
    lost = {case.start(rows[place]) for place in places}
    broken(name, answer, places, rng)
    found, reading = await read(case, answer)
    kept = {start: g for start, g in clean.items() if start not in lost}
    assert {start: g for start, g in found.items() if start in kept} == kept
    assert all(found[start] == clean[start] for start in found)
    assert bool(reading.dropped) == bool(places)
    assert "k-3f9a71c2e5" not in repr(reading.dropped)


@pytest.mark.parametrize("name", sorted(CASES))
async def test_rows_in_another_order_are_the_same_answer(name: str) -> None:
    case = CASES[name]
    answer = case.answer()
    random.Random(7).shuffle(case.listed(answer))
    assert await read(case, answer) == await read(case, case.answer())


@pytest.mark.parametrize("name", sorted(CASES))
async def test_without_a_usable_row_the_whole_answer_is_refused(name: str) -> None:
    case = CASES[name]
    answer = case.answer()
    for row in case.listed(answer):
        case.value(row, -5_000_000)
    with pytest.raises(ProviderError) as caught:
        await read(case, answer)
    assert isinstance(caught.value, ProviderAnswerError)

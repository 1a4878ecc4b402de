"""Who looks at endpoints, what is told of them, and that nothing is told twice."""

from itertools import pairwise

import pytest

from router.app.fleet_energy import SPAN_S, EnergyRounds
from router.core.energy import idle_w
from router.ledger.tables import ENERGY, NUMBERING
from router.load.energy_meter import NO_READING, MeterReading
from router.model import UNBURDENED
from router.state.memory import MemoryStore
from router.units import HOUR_S
from tests.app.support import Place, configured

NAMES = [column.name for column in ENERGY.columns[len(NUMBERING) :]]


class Meter:
    """What servers say that they drew; nothing, but of those in ``joules``."""

    def __init__(self, **joules):
        self.told = joules

    async def meter(self, endpoint):
        joules = self.told.get(endpoint.name.partition("-")[0])
        return NO_READING if joules is None else MeterReading({"gpu": joules})


async def rounds(tmp_path, looks=True, store=None, holder="one", **ledger):
    path = configured(tmp_path, {"ledger": {"dir": "ledger", **ledger}})
    place = await Place(path).open()
    rows = []
    cpu = [100.0]
    made = EnergyRounds(
        place.runtime.config.settings.ledger, place.runtime,
        lambda cells: rows.append(dict(zip(NAMES, cells, strict=True))),
        looks, store, holder, lambda: cpu[0],
    )  # fmt: skip
    return place, made, rows, cpu


async def test_a_span_tells_of_every_endpoint_and_of_the_gateway(tmp_path):
    place, made, rows, cpu = await rounds(tmp_path, gateway_w_per_core=4.0)
    await made._start(Meter())
    name = place.runtime.config.fleet.endpoints[0].name
    place.clock.advance(10.0)
    made.look()
    place.seat(name).take(UNBURDENED, place.clock.monotonic())
    place.clock.advance(2.0)
    cpu[0] = 103.0
    await made.tell(Meter())
    first, *others, gateway = rows
    assert [row["endpoint"] for row in (first, *others)] == [
        one.name for one in place.runtime.config.fleet.endpoints
    ]
    assert (first["idle_s"], first["awake_s"]) == pytest.approx((10.0, 2.0))
    profile = place.runtime.config.fleet.endpoints[0].models[0].profile
    assert first["idle_j"] == pytest.approx(10.0 * idle_w(profile), abs=1e-5)
    assert first["g_per_kwh"] > 0.0
    assert (gateway["part"], gateway["awake_s"], gateway["awake_j"]) == ("gateway", 3.0, 12.0)
    assert gateway["grid_zone"] is None


async def test_an_endpoint_that_is_out_draws_nothing_that_is_known(tmp_path):
    place, made, rows, _ = await rounds(tmp_path)
    await made._start(Meter())
    seat = place.seat(place.runtime.config.fleet.endpoints[0].name)
    seat.health.refuse(place.clock.monotonic())
    made.look()
    place.clock.advance(10.0)
    await made.tell(Meter())
    assert (rows[0]["idle_s"], rows[0]["awake_s"]) == (0.0, 0.0)
    assert rows[1]["idle_s"] == pytest.approx(10.0)


async def test_the_gateway_is_where_its_operator_says(tmp_path):
    place, made, rows, _ = await rounds(tmp_path)
    region = next(iter(place.runtime.config.fleet.regions))
    (tmp_path / "b").mkdir()
    place, made, rows, _ = await rounds(tmp_path / "b", gateway_region=region)
    await made._start(Meter())
    place.clock.advance(10.0)
    await made.tell(Meter())
    gateway = rows[-1]
    assert (gateway["region"], gateway["pue"]) == (
        region, place.runtime.config.fleet.regions[region].pue,
    )  # fmt: skip
    assert gateway["g_per_kwh"] > 0.0


async def test_of_gateways_that_share_a_store_one_looks(tmp_path):
    store = MemoryStore()
    (tmp_path / "b").mkdir()
    place, first, rows, _ = await rounds(tmp_path, store=store, holder="one")
    other, second, others, _ = await rounds(tmp_path / "b", store=store, holder="two")
    await first._start(Meter())
    await second._start(Meter())
    for _ in range(3):
        for one, clock in ((first, place.clock), (second, other.clock)):
            clock.advance(6.0)
            await one._renew()
            one.look()
    await first.tell(Meter())
    await second.tell(Meter())
    assert len(rows) == 1 + len(place.runtime.config.fleet.endpoints)
    assert [row["part"] for row in others] == ["gateway"]
    # It goes: the other one takes over with its next span.
    await first.close(Meter())
    other.clock.advance(6.0)
    await second._renew()
    await second.tell(Meter())
    other.clock.advance(6.0)
    await second.tell(Meter())
    assert len(others) == 3 + len(place.runtime.config.fleet.endpoints)


async def test_a_worker_that_is_not_the_first_tells_of_itself_alone(tmp_path):
    place, made, rows, _ = await rounds(tmp_path, looks=False)
    await made._start(Meter())
    place.clock.advance(5.0)
    await made.close(Meter())
    assert [row["part"] for row in rows] == ["gateway"]


async def test_no_span_goes_past_an_hour_or_lasts_long(tmp_path, monkeypatch):
    async def at_once(_):
        place.clock.advance(1.0)

    place, made, rows, _ = await rounds(tmp_path)
    monkeypatch.setattr("router.app.fleet_energy.asyncio.sleep", at_once)
    for _ in range(4000):
        await made.run(Meter())
    spans = {(row["since"], row["until"]) for row in rows}
    assert len(spans) >= 3600 / SPAN_S
    for since, until in spans:
        assert 0 < until - since <= (SPAN_S + 2.0) * 1e6
        assert since // (HOUR_S * 1e6) == (until - 1) // (HOUR_S * 1e6)
    ends = sorted(spans)
    assert all(a[1] == b[0] for a, b in pairwise(ends))

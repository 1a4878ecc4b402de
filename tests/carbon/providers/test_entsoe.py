"""ENTSO-E through entsoe-py, against documents of the recorded shape from a local server."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from router.carbon.providers.budget import CallBudget, CallLimit
from router.carbon.providers.entsoe import Entsoe
from router.carbon.providers.provider import Provider, Reading, Want
from router.errors import (
    CallBudgetError,
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from router.model import Basis, Factors, Kind, Signal
from router.trust.secrets import Secret
from tests.carbon.http_support import StillClock
from tests.fakes.entsoe import FakeEntsoe, acknowledgement
from tests.fakes.serving import Fault, What, serving
from tests.fakes.world import HOUR, GridZone, World

pytest.importorskip("entsoe", reason="needs the extra entsoe")
# entsoe-py 0.8 uses what pandas 4 will no longer have.
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")

KEY = "en7s0e-5ecret-41c9d2"
DE = "10Y1001A1001A82H"
NOW = datetime.fromisoformat("2025-01-03T06:20Z").timestamp()
START = NOW // HOUR * HOUR - 30 * HOUR
GENERATION = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"

Answer = tuple[int, Mapping[str, str], bytes]
Respond = Callable[[dict[str, list[str]]], Answer]


class Server(ThreadingHTTPServer):
    """Answers by ``respond``, and keeps what it was asked."""

    def __init__(self, respond: Respond) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.respond = respond
        self.asked: list[dict[str, list[str]]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/api"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.server.asked.append(query)
        status, headers, content = self.server.respond(query)
        self.send_response(status)
        for name, value in {"Content-Type": "text/xml", **headers}.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served() -> Iterator[Callable[[Respond], Server]]:
    servers: list[Server] = []

    def start(respond: Respond) -> Server:
        server = Server(respond)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def xml(text: str, status: int = 200, **headers: str) -> Respond:
    return lambda query: (status, headers, text.encode())


def minute(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%MZ")


def series(
    psr: str, values: list[float], *, step_min: int = 60, way: str = "in", area: str = DE,
    start: float = START,
) -> str:  # fmt: skip
    points = "".join(
        f"<Point><position>{i}</position><quantity>{value:g}</quantity></Point>"
        for i, value in enumerate(values, 1)
    )
    end = start + len(values) * step_min * 60
    return (
        f'<TimeSeries><mRID>1</mRID><{way}BiddingZone_Domain.mRID codingScheme="A01">{area}'
        f"</{way}BiddingZone_Domain.mRID><curveType>A01</curveType><MktPSRType><psrType>{psr}"
        f"</psrType></MktPSRType><Period><timeInterval><start>{minute(start)}</start>"
        f"<end>{minute(end)}</end></timeInterval><resolution>PT{step_min}M</resolution>{points}"
        "</Period></TimeSeries>"
    )


def document(*parts: str) -> str:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f'{head}<GL_MarketDocument xmlns="{GENERATION}">{"".join(parts)}</GL_MarketDocument>'


def provider_at(url: str, **more: Any) -> Entsoe:
    more.setdefault("factors", Factors.LIFECYCLE)
    more.setdefault("clock", StillClock(NOW))
    return Entsoe({"DE": "DE_LU"}, key=Secret(KEY), base_url=url, timeout_s=2.0, **more)


async def read(server: Server, want: Want = Want.LATEST, **more: Any) -> Reading:
    found = (await provider_at(server.url, **more).fetch(["DE"], want, NOW, 48))["DE"]
    assert isinstance(found, Reading)
    return found


async def test_one_call_gives_hourly_intensities(served: Callable[[Respond], Server]) -> None:
    server = served(xml(document(series("B04", [60.0] * 30), series("B19", [40.0] * 30))))
    provider: Provider = provider_at(server.url)
    found = (await provider.fetch(["DE"], Want.LATEST, NOW, 1))["DE"]
    assert isinstance(found, Reading) and len(found.observed) == 30 and found.forecast is None
    newest = found.observed[-1]
    assert newest.g_per_kwh == pytest.approx(0.6 * 490 + 0.4 * 11)
    assert newest.observed_at == NOW // HOUR * HOUR
    assert newest.kind is Kind.ESTIMATED and newest.source == "entsoe (production-based)"
    assert newest.signal == Signal(Basis.AVERAGE, Factors.LIFECYCLE)
    (asked,) = server.asked
    assert asked["documentType"] == ["A75"] and asked["processType"] == ["A16"]
    assert asked["in_Domain"] == [DE] and asked["securityToken"] == [KEY]
    assert asked["periodStart"] == ["202501020000"] and asked["periodEnd"] == ["202501030600"]
    assert Want.FORECAST not in provider.wants


async def test_quarter_hours_and_hours_meet_in_whole_hours(
    served: Callable[[Respond], Server],
) -> None:
    quarters = [50.0, 60.0, 70.0, 60.0] * 29 + [60.0, 60.0]
    server = served(xml(document(series("B04", quarters, step_min=15), series("B16", [40.0] * 30))))
    found = await read(server)
    # The last hour has half of its gas: passed over.
    assert [value.observed_at for value in found.observed][-1] == NOW // HOUR * HOUR - HOUR
    assert found.observed[-1].g_per_kwh == pytest.approx(0.6 * 490 + 0.4 * 41)


async def test_storage_counts_neither_way(served: Callable[[Respond], Server]) -> None:
    plain = document(series("B04", [60.0] * 30), series("B11", [40.0] * 30))
    charging = document(
        series("B04", [60.0] * 30),
        series("B11", [40.0] * 30),
        series("B10", [0.0] * 30),
        series("B10", [50.0] * 30, way="out"),
        series("B25", [9.0] * 30),
    )
    assert (await read(served(xml(plain)))).observed == (await read(served(xml(charging)))).observed
    with pytest.raises(NoDataError, match="storage only"):
        await read(served(xml(document(series("B10", [5.0] * 30, way="out")))))


async def test_half_of_the_coal_is_no_report_of_coal(served: Callable[[Respond], Server]) -> None:
    lignite = series("B02", [50.0] * 29)
    server = served(xml(document(lignite, series("B05", [10.0] * 30), series("B19", [40.0] * 30))))
    found = await read(server)
    assert found.observed[-1].observed_at == NOW // HOUR * HOUR - HOUR


async def test_much_of_unknown_type_is_refused(served: Callable[[Respond], Server]) -> None:
    server = served(xml(document(series("B20", [30.0] * 30), series("B19", [70.0] * 30))))
    with pytest.raises(NoDataError, match=r"grid zone DE: .*other or unknown"):
        await read(server)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("content_type", ["text/xml", "application/xml; charset=UTF-8"])
async def test_no_matching_data(
    served: Callable[[Respond], Server], status: int, content_type: str
) -> None:
    text = acknowledgement("No matching data found for Data item X")
    server = served(xml(text, status, **{"Content-Type": content_type}))
    with pytest.raises(NoDataError, match="no matching data"):
        await read(server)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (document(series("B04", [1.0], area="10YFR-RTE------C")), "10YFR-RTE"),
        ("", "which area"),
        ("<html>maintenance</html>", "which area"),
        (document(series("B04", [1.0]).replace("PT60M", "PT7M")), "cannot be read"),
        (document(series("B77", [1.0])), "cannot be read"),
        (document(series("B04", [1.0]).replace("B04", "")), "cannot be read"),
        (document(series("B04", [1.0]))[:300], "no whole XML"),
    ],
)
async def test_other_documents_are_refused(
    served: Callable[[Respond], Server], text: str, why: str
) -> None:
    with pytest.raises(ProviderAnswerError, match=why):
        await read(served(xml(text)))


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (401, {}, ProviderRefusedError),
        (403, {}, ProviderRefusedError),
        (429, {"Retry-After": "60"}, ProviderBusyError),
        (503, {}, ProviderUnavailableError),
        (302, {"Location": "http://127.0.0.1:9/elsewhere"}, ProviderAnswerError),
        (400, {}, ProviderAnswerError),
        (200, {"Content-Length": "9999"}, ProviderUnavailableError),
    ],
)
async def test_failures_are_told_apart_and_never_tell_the_key(
    served: Callable[[Respond], Server],
    caplog: pytest.LogCaptureFixture,
    status: int,
    headers: dict[str, str],
    error: type[ProviderError],
) -> None:
    caplog.set_level(logging.DEBUG)
    server = served(xml(acknowledgement("Some reason"), status, **headers))
    with pytest.raises(error) as caught:
        await read(server)
    assert len(server.asked) == 1
    assert_untold(caught.value, caplog)
    if isinstance(caught.value, ProviderBusyError):
        assert caught.value.retry_after_s == 60.0


def assert_untold(error: BaseException | None, caplog: pytest.LogCaptureFixture) -> None:
    assert KEY not in caplog.text
    while error is not None:
        assert KEY not in repr(error) and KEY not in str(error)
        error = error.__cause__ or error.__context__


async def test_no_server_and_a_silent_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(ProviderUnavailableError, match="connection failed") as caught:
            await provider_at(f"http://127.0.0.1:{port}/api").fetch(["DE"], Want.LATEST, NOW, 1)
        assert_untold(caught.value, caplog)
        closed.listen()
        silent = Entsoe(
            {"DE": "DE_LU"}, key=Secret(KEY), factors=Factors.LIFECYCLE, clock=StillClock(NOW),
            base_url=f"http://127.0.0.1:{port}/api", timeout_s=0.05,
        )  # fmt: skip
        with pytest.raises(ProviderUnavailableError, match=r"within 0\.05 s") as caught:
            await silent.fetch(["DE"], Want.LATEST, NOW, 1)
        assert_untold(caught.value, caplog)


async def test_a_dripping_answer_has_an_end(served: Callable[[Respond], Server]) -> None:
    class Hurried(StillClock):
        def monotonic(self) -> float:
            self.at += 3.0
            return self.at

    server = served(xml(document(series("B04", [60.0] * 30))))
    with pytest.raises(ProviderUnavailableError, match="no whole answer within 2 s"):
        await read(server, clock=Hurried(NOW))


async def test_the_log_of_a_success_does_not_tell_the_key(
    served: Callable[[Respond], Server], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await read(served(xml(document(series("B04", [60.0] * 30)))))
    assert "securityToken" in caplog.text
    assert_untold(None, caplog)


async def test_the_budget_is_kept(served: Callable[[Respond], Server]) -> None:
    server = served(xml(document(series("B04", [60.0] * 30))))
    clock = StillClock(NOW)
    provider = provider_at(server.url, budget=CallBudget(CallLimit(1, 60.0)), clock=clock)
    await provider.fetch(["DE"], Want.LATEST, NOW, 1)
    with pytest.raises(CallBudgetError) as caught:
        await provider.fetch(["DE"], Want.LATEST, NOW, 1)
    assert len(server.asked) == 1 and 0.0 < caught.value.retry_after_s <= 62.0
    clock.at += 62.0
    await provider.fetch(["DE"], Want.LATEST, NOW, 1)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"key": Secret(KEY), "clock": StillClock(NOW)}
    with pytest.raises(ConfigError, match=r"zones\.XX: 'GERMANY' is no Area"):
        Entsoe({"XX": "GERMANY"}, factors=Factors.LIFECYCLE, **more)
    with pytest.raises(ConfigError, match="lifecycle or direct"):
        Entsoe({"DE": "DE_LU"}, factors=Factors.NONE, **more)
    monkeypatch.setitem(__import__("sys").modules, "entsoe", None)
    with pytest.raises(ConfigError, match=r"pip install 'carbon-router\[entsoe\]'"):
        Entsoe({"DE": "DE_LU"}, factors=Factors.LIFECYCLE, **more)


async def test_an_unconfigured_zone_has_no_area(served: Callable[[Respond], Server]) -> None:
    with pytest.raises(NoDataError, match="no area"):
        await provider_at(served(xml("")).url).fetch(["FR"], Want.LATEST, NOW, 1)


@asynccontextmanager
async def wired(begin: str, *faults: Fault, **more: Any) -> AsyncIterator[tuple[Entsoe, World]]:
    zones = {"DE": GridZone("DE", lag_s=2 * HOUR, storage_mw=900.0), "FR": GridZone("FR")}
    world = World(datetime.fromisoformat(begin).timestamp(), zones=zones)
    ids = {DE: "DE", "10YFR-RTE------C": "FR"}
    fake = FakeEntsoe(world, ids, keys=[KEY], faults=list(faults), **more)
    async with serving(fake) as url:
        yield provider_at(f"{url}/api", clock=world), world


# An ordinary day, and the nights on which European clocks change.
@pytest.mark.parametrize("begin", ["2025-01-03T06:20Z", "2025-03-30T09:20Z", "2025-10-26T09:20Z"])
@pytest.mark.parametrize("hourly", [(), (DE,)])
async def test_the_fake_is_read_as_its_world_is(begin: str, hourly: tuple[str, ...]) -> None:
    async with wired(begin, hourly=hourly) as (provider, world):
        found = (await provider.fetch(["DE"], Want.HISTORY, world.now(), 48))["DE"]
    assert isinstance(found, Reading)
    assert found.observed[-1].observed_at == world.now() // HOUR * HOUR - 2 * HOUR
    assert len(found.observed) == 46
    step = HOUR if hourly else HOUR / 4
    for value in found.observed:
        start = value.observed_at - HOUR
        mixes = [world.mix_mw("DE", start + i * step, step) for i in range(int(HOUR / step))]
        mean = {fuel: sum(mix[fuel] for mix in mixes) for fuel in mixes[0]}
        factors = {
            "coal": 820, "gas": 490, "nuclear": 12, "wind": 11, "solar": 41, "hydro": 24,
        }  # fmt: skip
        true = sum(factors[fuel] * mw for fuel, mw in mean.items()) / sum(mean.values())
        assert value.g_per_kwh == pytest.approx(true, rel=1e-6)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(What.TOO_MANY, retry_after_s=60.0), ProviderBusyError),
        (Fault(What.KEY_REVOKED), ProviderRefusedError),
        (Fault(What.DEAD), ProviderUnavailableError),
        (Fault(What.TRUNCATED), ProviderUnavailableError),
        (Fault(What.HTML), ProviderAnswerError),
        (Fault(What.WRONG_ZONE), ProviderAnswerError),
        (Fault(What.NO_DATA), NoDataError),
    ],
)
async def test_faults_of_the_fake_are_told_apart(
    fault: Fault, error: type[ProviderError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with wired("2025-01-03T06:20Z", fault) as (provider, world):
        with pytest.raises(error) as caught:
            await provider.fetch(["DE"], Want.LATEST, world.now(), 1)
    assert_untold(caught.value, caplog)

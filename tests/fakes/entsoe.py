"""ENTSO-E's transparency platform: actual generation per type (A75, A16) as XML.

Shapes after the published document schemas and what entsoe-py reads. "No matching data found" comes
with status 200 as well as 400; equal neighbouring values are left out (curve type A03); charging a
pumped storage is a series of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from aiohttp import web

from tests.fakes.faults import What
from tests.fakes.serving import Ask, Fake, Handler, Refusal, iso
from tests.fakes.world import World, floor_to, slots

STEP_S: Final = 900.0
PSR: Final = {
    "coal": "B05", "gas": "B04", "nuclear": "B14", "wind": "B19", "solar": "B16", "hydro": "B11",
}  # fmt: skip
STORAGE: Final = "B10"
GENERATION: Final = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"
ACKNOWLEDGEMENT: Final = "urn:iec62325.351:tc57wg16:451-1:acknowledgementdocument:7:0"


class FakeEntsoe(Fake):
    """``zones``: code of an area (``10Y1001A1001A82H``) -> zone of the world (its ``lag_s`` holds).

    ``no_data_status``: 200 or 400. ``hourly``: areas that publish hours, not quarter-hours.
    """

    name: ClassVar[str] = "entsoe"
    # As the platform sends it. With a charset entsoe-py no longer looks for "No matching data".
    content_type: str = "text/xml"

    def __init__(
        self,
        world: World,
        zones: Mapping[str, str],
        *,
        keys: Iterable[str] = ("entsoe-key",),
        no_data_status: int = 200,
        hourly: Iterable[str] = (),
        **more: Any,
    ) -> None:
        super().__init__(world, zones, **more)
        self.keys = frozenset(keys)
        self.no_data_status = no_data_status
        self.hourly = frozenset(hourly)

    def routes(self) -> Iterable[tuple[str, str, Handler]]:
        yield "/api", "generation", self.generation

    def zone_of(self, request: web.Request) -> str:
        return request.query.get("in_Domain", "")

    def key_of(self, request: web.Request) -> str:
        return request.query.get("securityToken", "")

    def encode(self, body: Any) -> bytes:
        text = body if isinstance(body, str) else acknowledgement(str(body))
        return text.encode()

    def pad(self, body: bytes) -> tuple[bytes, bytes, bytes]:
        head, _, tail = body.partition(b"?>")
        return head + b"?><!--", b" " * (1 << 16), b"-->" + tail

    def unknown_path(self, ask: Ask) -> Any:
        raise Refusal(404, acknowledgement("Not found"))

    def too_many(self) -> Any:
        return acknowledgement("Max allowed requests per minute exceeded")

    def generation(self, ask: Ask) -> Any:
        """A GL_MarketDocument, or an acknowledgement that says why there is none."""
        if self.key_of(ask.request) not in self.keys or self.on(What.KEY_REVOKED, ask):
            raise Refusal(401, acknowledgement("Unauthorized. Missing or invalid security token"))
        if self.on(What.OUTSIDE_PLAN, ask):
            raise Refusal(403, acknowledgement("Forbidden"))
        start, end = _stamp(ask, "periodStart"), _stamp(ask, "periodEnd")
        asked = ask.query("documentType"), ask.query("processType")
        where = self.world_zone(ask.zone)
        step = 3600.0 if ask.zone in self.hourly else STEP_S
        last = floor_to(ask.now - self.world.zone(where).lag_s, step)
        starts = slots(start, min(end, last), step)
        nothing = self.on(What.NO_DATA, ask) or self.on(What.NO_ROWS, ask)
        if ask.zone not in self.zones or asked != ("A75", "A16") or nothing or not starts:
            text = (
                "No matching data found for Data item AGGREGATED_GENERATION_PER_TYPE_R3 "
                f"[16.1.B&amp;C] ({ask.zone}) and interval {iso(start)}/{iso(end)}."
            )
            raise Refusal(self.no_data_status, acknowledgement(text))
        if self.on(What.WRONG_ZONE, ask):
            other = self.other_zone(ask.zone)
            return self._document(ask, other, self.world_zone(other), starts, step)
        return self._document(ask, ask.zone, where, starts, step)

    def _document(self, ask: Ask, area: str, where: str, starts: list[float], step: float) -> str:
        mixes = [self.world.mix_mw(where, start, step) for start in starts]
        missing = self.on(What.NO_MAIN_FUEL, ask)
        main = max(mixes[0], key=lambda fuel: mixes[0][fuel]) if missing else ""
        span = starts[0], starts[-1] + step, step
        series = []
        for fuel in mixes[0]:
            column = [mix[fuel] for mix in mixes]
            # What is missing at the end ends the period of that one series.
            if missing and fuel == main:
                column = column[: sum(start < missing.start for start in starts)]
            if column:
                until = span[0], span[0] + len(column) * step, step
                series.append(_series(PSR[fuel], area, "in", until, column))
        if self.world.zone(where).storage_mw:
            storage = [self.world.storage_mw(where, start, step) for start in starts]
            made, used = [max(0.0, mw) for mw in storage], [max(0.0, -mw) for mw in storage]
            series.append(_series(STORAGE, area, "in", span, made))
            series.append(_series(STORAGE, area, "out", span, used))
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<GL_MarketDocument xmlns="{GENERATION}">\n'
            "<mRID>0123456789abcdef</mRID><revisionNumber>1</revisionNumber><type>A75</type>"
            "<process.processType>A16</process.processType>"
            f"<createdDateTime>{iso(ask.now)}</createdDateTime><time_Period.timeInterval>"
            f"<start>{iso(span[0], 'minutes')}</start><end>{iso(span[1], 'minutes')}</end>"
            f"</time_Period.timeInterval>\n{''.join(series)}</GL_MarketDocument>\n"
        )


def acknowledgement(reason: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Acknowledgement_MarketDocument xmlns="{ACKNOWLEDGEMENT}"><mRID>0123</mRID>'
        f"<Reason><code>999</code><text>{reason}</text></Reason></Acknowledgement_MarketDocument>\n"
    )


def _series(
    psr: str, area: str, direction: str, span: tuple[float, float, float], column: list[float]
) -> str:
    start, end, step = span
    points, previous = [], -1.0
    for position, value in enumerate(column, 1):
        if value != previous:
            points.append(
                f"<Point><position>{position}</position><quantity>{value:.0f}</quantity></Point>"
            )
        previous = value
    return (
        f"<TimeSeries><mRID>{psr}-{direction}</mRID><businessType>A01</businessType>"
        f"<objectAggregation>A08</objectAggregation><{direction}BiddingZone_Domain.mRID "
        f'codingScheme="A01">{area}</{direction}BiddingZone_Domain.mRID>'
        "<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>A03</curveType>"
        f"<MktPSRType><psrType>{psr}</psrType></MktPSRType><Period><timeInterval>"
        f"<start>{iso(start, 'minutes')}</start><end>{iso(end, 'minutes')}</end></timeInterval>"
        f"<resolution>PT{step / 60:.0f}M</resolution>{''.join(points)}</Period></TimeSeries>\n"
    )


def _stamp(ask: Ask, name: str) -> float:
    text = ask.query(name)
    try:
        return datetime.strptime(text, "%Y%m%d%H%M").replace(tzinfo=UTC).timestamp()
    except ValueError:
        reason = f"Input parameter does not exist or is not well formed: {name}"
        raise Refusal(400, acknowledgement(reason)) from None

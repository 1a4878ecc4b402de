import threading

import pytest

from router.errors import DataError, ReceiptsUnreachableError
from router.ledger.asking.ledger import AskedLedger
from router.ledger.asking.pages import plan_page
from router.ledger.prices import add_prices
from tests.ledger.asking.support import HOUR, id_of, row
from tests.ledger.asking.test_settled import price
from tests.ledger.rows import SEVEN_S
from tests.ledger.support import Writing, files


class Hands:
    def now(self):
        return SEVEN_S + 7200.0

    def monotonic(self):
        return 5.0


def asked(root, kept=str, url=None):
    return AskedLedger(root, url, Hands(), kept)


@pytest.fixture
def folder(tmp_path):
    writing = Writing(tmp_path)
    writing.record([row(1, outcome="moved", gco2e=0.5), row(1, attempt=2), row(2, tenant="rival")])
    writing.seal()
    return tmp_path


async def test_a_receipt_is_told_to_its_owner_with_what_failed_before(folder):
    told = await asked(folder).find(id_of(1), "acme")
    assert (told.row["attempt"], told.lost_gco2e, told.settled) == (2, 0.5, None)
    for owner, number in (("rival", 1), ("", 1), ("acme", 2), ("acme", 3)):
        assert await asked(folder).find(id_of(number), owner) is None
    for word in ("", "x", "../x", id_of(1).rpartition("-")[0], id_of(1) + "\n"):
        assert await asked(folder).find(word, "acme") is None


async def test_owners_are_looked_for_as_they_are_kept(folder):
    assert await asked(folder, lambda owner: owner[::-1]).find(id_of(1), "emca") is not None
    assert await asked(folder, lambda owner: owner[::-1]).find(id_of(1), "acme") is None
    omitted = asked(folder, lambda owner: None)
    assert await omitted.find(id_of(1), "acme") is None and not omitted.tells_owners
    with pytest.raises(DataError):
        await omitted.page("acme", SEVEN_S, SEVEN_S + 60.0, "", 10)


async def test_what_was_settled_stands_beside_and_what_cannot_be_read_is_said(folder):
    add_prices(folder, [price(HOUR, 80.0)])
    # It ran for a second until 07:00:00.001: nearly all of it before seven.
    assert (await asked(folder).find(id_of(1), "acme")).settled is None
    add_prices(folder, [price(HOUR - 1, 80.0)])
    told = await asked(folder).find(id_of(1), "acme")
    assert told.settled.g_per_kwh == pytest.approx(80.0) and told.row["g_per_kwh"] == 40.0
    assert told.settled.gco2e == pytest.approx(0.1, abs=1e-7) and told.row["gco2e"] == 0.05
    (folder / "prices" / "000002.parquet").write_bytes(b"x")
    told = await asked(folder).find(id_of(1), "acme")
    assert told.settled is None and told.settled_unread


async def test_a_broken_file_may_hold_it_and_is_told_of_once(folder, caplog):
    files(folder)[0].write_bytes(b"x")
    ledger = asked(folder)
    with pytest.raises(ReceiptsUnreachableError, match="may be there"):
        await ledger.find(id_of(1), "acme")
    for _ in range(3):
        page = await ledger.page("acme", SEVEN_S, SEVEN_S + 60.0, "", 10)
        assert len(page.unread) == 1 and page.after == ""
    assert len([one for one in caplog.records if "cannot be read" in one.message]) == 1


async def test_a_store_that_is_none_is_unreachable():
    ledger = asked("/proc/1/nowhere", url="nothing://x")
    with pytest.raises(ReceiptsUnreachableError):
        await ledger.find(id_of(1), "acme")
    with pytest.raises(ReceiptsUnreachableError):
        await ledger.page("acme", SEVEN_S, SEVEN_S + 60.0, "", 10)


async def test_a_page_comes_in_pieces(folder):
    page = await asked(folder).page("acme", SEVEN_S - 60.0, SEVEN_S + 60.0, "", 10)
    pieces = [piece async for piece in page.chunks()]
    assert page.rows == 2 and len(pieces) == 2
    assert b"".join(pieces).count(b"\n") == 3


async def test_a_file_that_is_sealed_between_plan_and_reading_is_read_where_it_went(
    folder, monkeypatch
):
    ledger = asked(folder)
    whole = b"".join([piece async for piece in (await page_of(ledger)).chunks()])
    plans = []

    def planned(*given):
        plans.append(plan_page(*given))
        if len(plans) <= gone:
            # As sealing does: another name, and other places.
            for file in files(folder):
                file.rename(file.with_name(f"{len(plans)}{file.name}"))
        return plans[-1]

    monkeypatch.setattr("router.ledger.asking.ledger.plan_page", planned)
    gone = 2
    assert b"".join([piece async for piece in (await page_of(ledger)).chunks()]) == whole
    assert len(plans) == 3
    gone = 9
    with pytest.raises(ReceiptsUnreachableError, match="ask again"):
        await page_of(ledger)


async def page_of(ledger):
    return await ledger.page("acme", SEVEN_S - 60.0, SEVEN_S + 60.0, "", 10)


async def test_periods_out_of_every_calendar_are_empty(folder):
    page = await asked(folder).page("acme", -1e30, 1e30, "", 10)
    assert page.rows == 2


async def test_what_is_here_is_told_however_absent_the_store_is(folder, monkeypatch):
    ledger = asked(folder, url="nothing://x")
    told = await ledger.find(id_of(1), "acme")
    assert told.row["attempt"] == 2 and told.settled_unread
    # A store that hangs holds up what is there alone.
    go = threading.Event()
    monkeypatch.setattr("router.ledger.asking.ledger._WAIT_S", 0.05)
    monkeypatch.setattr("router.ledger.asking.ledger._PRICES_S", 0.05)
    monkeypatch.setattr("router.ledger.asking.settled.PriceLookup.prices", lambda *_: go.wait())
    monkeypatch.setattr(ledger._there, "files", lambda hour: go.wait() and [])
    for _ in range(3):
        with pytest.raises(ReceiptsUnreachableError):
            await ledger.find(id_of(7), "acme")
    monkeypatch.setattr("router.ledger.asking.ledger._WAIT_S", 20.0)
    assert (await ledger.find(id_of(1), "acme")).settled_unread
    go.set()


async def test_rows_that_lie_apart_are_put_together(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for root, slot, cells in (
        (there, "gw-0", row(1, outcome="moved", gco2e=0.5)), (here, "gw-1", row(1, attempt=2)),
    ):  # fmt: skip
        writing = Writing(root, slot)
        writing.record([cells])
        writing.seal()
    told = await asked(here, url=there.as_uri()).find(id_of(1), "acme")
    assert (told.row["attempt"], told.lost_gco2e) == (2, 0.5)
    there_alone = await asked(tmp_path / "empty", url=here.as_uri()).find(id_of(1), "acme")
    assert there_alone.row["attempt"] == 2

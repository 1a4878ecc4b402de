import sys

import pytest
from prometheus_client import CollectorRegistry

from router.app.ledger import ProcessLedger, require_free_slots, require_ledger
from router.app.loading import load
from router.errors import ConfigError
from router.model import RowOutcome
from router.telemetry.ledger import LedgerMetrics
from router.telemetry.tenants import kept_tenant
from tests.app.support import configured
from tests.director.support import ANSWER, Hands, Room
from tests.ledger.support import links


def kept_in(folder, row=0, unique="x", **ledger):
    config = load(configured(folder, {"ledger": {"dir": "ledger", **ledger}}))
    registry = CollectorRegistry()
    made = ProcessLedger(config, row, unique, Hands(), LedgerMetrics(registry))
    return config, registry, made


async def test_what_is_told_is_in_files_when_it_is_closed(tmp_path):
    config, registry, made = kept_in(tmp_path, tenant="plain")
    room = Room(dict.fromkeys("abc", ANSWER))
    answer = await room.infer(tenant="acme")
    made.start()
    made.ledger.ended(answer.receipt, RowOutcome.ANSWERED)
    made.close()
    labels = {"table": "receipts", "outcome": "written"}
    assert registry.get_sample_value("carbon_router_ledger_rows_total", labels) == 1.0
    (link,) = links(config.settings.ledger.dir)
    assert (link.writer, link.rows) == ("gateway-0-x", 1)


async def test_files_go_to_the_store_where_there_is_one(tmp_path):
    url = f"file://{tmp_path}/store"
    _, registry, made = kept_in(tmp_path, url=url)
    answer = await Room(dict.fromkeys("abc", ANSWER)).infer()
    made.start()
    made.ledger.ended(answer.receipt, RowOutcome.ANSWERED)
    made.close()
    assert len(links(tmp_path / "store")) == 1
    assert links(tmp_path / "ledger") == []
    assert registry.get_sample_value("carbon_router_ledger_spool_bytes") == 0.0


def test_without_a_ledger_nothing_is_told(tmp_path):
    made = ProcessLedger(
        load(configured(tmp_path)), 0, "x", Hands(), LedgerMetrics(CollectorRegistry())
    )
    assert made.ledger is None
    made.start()
    made.close()


def test_a_place_that_another_process_has_is_named_with_its_key(tmp_path):
    kept_in(tmp_path)
    with pytest.raises(ConfigError, match=r"config.yaml: ledger\.name: another process"):
        kept_in(tmp_path)
    assert kept_in(tmp_path, row=1)[2].ledger is not None


def test_workers_are_not_started_where_another_gateway_writes_as_one_of_them(tmp_path):
    config, _, made = kept_in(tmp_path, row=2)
    with pytest.raises(ConfigError, match=r"config.yaml: ledger\.name: another process"):
        require_free_slots(config, 2)
    # It took none: each worker takes its own.
    require_free_slots(config, 1)
    kept_in(tmp_path, row=1)
    assert made.ledger is not None
    require_free_slots(load(configured(tmp_path)), 2)


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    config = load(configured(tmp_path, {"ledger": {"dir": "ledger"}}))
    (tmp_path / "ledger").write_text("no folder")
    with pytest.raises(ConfigError, match=r"ledger\.dir: .*ledger: "):
        ProcessLedger(config, 0, "x", Hands(), LedgerMetrics(CollectorRegistry()))


def test_what_it_takes_is_asked_for(tmp_path, monkeypatch):
    config = load(configured(tmp_path, {"ledger": {"dir": "ledger"}}))
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigError, match=r"pip install 'carbon-router\[ledger\]'"):
        require_ledger(config)


def test_how_tenants_are_kept_follows_a_reload(tmp_path):
    _, _, made = kept_in(tmp_path)
    assert made._tenant("acme") != "acme"
    made.adopt(
        load(configured(tmp_path, {"ledger": {"dir": "x", "tenant": "plain"}})).settings.ledger
    )
    assert made._tenant("acme") == "acme"


async def test_rows_of_a_process_that_is_no_more_are_sealed_by_the_first_worker(tmp_path):
    _, _, alone = kept_in(tmp_path)
    answer = await Room(dict.fromkeys("abc", ANSWER)).infer()
    alone.ledger.ended(answer.receipt, RowOutcome.ANSWERED)
    thread = alone._closing[0]
    thread._queues[0].work(0.0, lambda: None)
    thread._queues[0].writer._slot.close()
    config = load(configured(tmp_path, {"ledger": {"dir": "ledger"}}))
    assert links(config.settings.ledger.dir) == []
    metrics = LedgerMetrics(CollectorRegistry())
    worker = ProcessLedger(config, 1, "y", Hands(), metrics, workers=2)
    worker.start()
    worker.close()
    assert [link.writer for link in links(config.settings.ledger.dir)] == ["gateway-0-x"]


@pytest.mark.parametrize(("style", "is_told"), [("hash", True), ("plain", True), ("omit", False)])
async def test_callers_are_told_their_rows_by_the_name_that_is_kept(tmp_path, style, is_told):
    _, _, made = kept_in(tmp_path, tenant=style)
    answer = await Room(dict.fromkeys("abc", ANSWER)).infer(tenant="acme")
    made.start()
    made.ledger.ended(answer.receipt, RowOutcome.ANSWERED)
    made.close()
    asked = made.asked()
    assert asked.tells_owners == is_told
    found = await asked.find(answer.receipt.decision_id, "acme")
    assert (found is not None) == is_told
    for other in ("rival", "", kept_tenant("acme", "hash")):
        assert await asked.find(answer.receipt.decision_id, other) is None


def test_without_a_ledger_nobody_is_asked(tmp_path):
    config, registry = load(configured(tmp_path)), CollectorRegistry()
    assert ProcessLedger(config, 0, "x", Hands(), LedgerMetrics(registry)).asked() is None

"""Every query of the dashboard, and every rule, against what a real gateway shows of itself: by a
real Prometheus where there is one, and by the names and labels in it everywhere."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import quote

import pytest
import yaml

from tests.e2e.harness import ROOT, Gateway, ask, base, emulator, pair, until
from tests.fakes.otlp_collector import Collector, attributes
from tests.ports import free_ports

DOCKER = ROOT / "docker"
DASHBOARD = json.loads((DOCKER / "grafana" / "carbon-router.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((DOCKER / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}
# What there is nothing of in a gateway that nothing happens to, and without what it belongs to.
WITHOUT = {
    "carbon_router_carbon_budget_limit_grams": "no budget",
    "carbon_router_carbon_budget_remaining_grams": "no budget",
    "carbon_router_discovery_age_seconds": "no discovery",
    "carbon_router_excess_gco2e_grams_total": "nothing was sent where more is emitted",
    "carbon_router_forecast_error_g_per_kwh": "no published forecast",
    "carbon_router_last_reload_timestamp_seconds": "no reload",
    "carbon_router_ledger_spool_bytes": "no store of the ledger",
    "carbon_router_retries_total": "no retry",
    "carbon_router_state_store_failing_seconds": "no store",
}
_NAME = re.compile(r"\b(carbon_router[a-z0-9_:]*|process_[a-z_]+)")
_BY = re.compile(r"\b(?:by|on|group_left)\s*\(([^)]*)\)")
_MATCHER = re.compile(r"([a-z_]+)\s*(?:=~|!=|!~|=)\s*\"")


def queries():
    """(panel, query) of the dashboard, its variables filled in."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield panel["title"], query


def recorded():
    """Name of each recording rule, and what it is."""
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    return {rule["record"]: rule["expr"] for rule in rules if "record" in rule}


def alerts():
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    return [rule["expr"] for rule in rules if "alert" in rule]


def named_in(query):
    """Names of metrics in ``query``, by way of recording rules, too."""
    found = set()
    for name in _NAME.findall(query):
        found |= named_in(recorded()[name]) if ":" in name else {name}
    return found


def test_panels_lie_beside_each_other_and_have_a_name_of_their_own():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][key] for key in "xy") for panel in panels]
    assert len(set(places)) == len(places)
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_rules_that_are_recorded_are_used():
    used = {name for _, query in queries() for name in _NAME.findall(query)}
    used |= {name for query in alerts() for name in _NAME.findall(query)}
    # What another is recorded of, too.
    used |= {name for query in recorded().values() for name in _NAME.findall(query)}
    assert set(recorded()) <= used
    assert {name for name in used if ":" in name} <= set(recorded())


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """One with traffic: answered, refused, traced, kept in a ledger."""
    folder = tmp_path_factory.mktemp("dashboard")
    with Collector() as collector:
        otlp = {"endpoint": f"http://127.0.0.1:{collector.port}", "sample_ratio": 1.0}
        otlp |= {"metrics": True, "metrics_every_s": 1, "logs": True}
        config = base(pair(), ledger={"dir": "ledger", "flush_s": 0.2})
        (http,) = free_ports(1)
        config["server"] |= {"http": f"127.0.0.1:{http}"}
        config["telemetry"] = {"otlp": otlp}
        with (
            closing(Ended(emulator(folder, config))),
            closing(Ended(Gateway(folder, config))) as it,
        ):
            it.child.collector, it.child.http = collector, f"127.0.0.1:{http}"
            asyncio.run(traffic(it.child))
            yield it.child


class Ended:
    def __init__(self, child):
        self.child = child

    def close(self):
        self.child.stop()


async def traffic(gateway):
    async with gateway.client() as client:

        async def answered():
            try:
                await client.infer(ask())
            except Exception:
                return False
            return True

        await until(answered, "an answer")
        for _ in range(20):
            await client.receipt(x_residency="eu")
        await client.refusal(ask(model="nobody's"))

    async def shown():
        rows = await gateway.total("ledger_rows_total", outcome="written")
        return rows >= 20 and await gateway.total("spans_total", outcome="exported") >= 40

    await until(shown, "rows and spans")


async def test_every_name_and_label_is_on_the_page(gateway):
    page = await gateway.metrics()
    for title, query in [*queries(), *(("an alert", query) for query in alerts())]:
        names = named_in(query) - WITHOUT.keys()
        assert names <= page.keys(), (title, names - page.keys())
        known = {"le", "instance", "job"}
        for name in named_in(query):
            known |= {label for labels, _ in page.get(name, ()) for label in labels}
        if named_in(query) & WITHOUT.keys():
            continue
        asked = {one.strip() for part in _BY.findall(query) for one in part.split(",")} - {""}
        asked |= set(_MATCHER.findall(query))
        assert asked <= known, (title, asked - known)


def post(address, body):
    with closing(HTTPConnection(address, timeout=30)) as connection:
        connection.request(
            "POST", "/v1/chat/completions", body, {"content-type": "application/json"}
        )
        with connection.getresponse() as reply:
            return reply.status


async def test_what_is_pushed_is_what_is_shown(gateway):
    page = await gateway.metrics()
    shown = {name for name, rows in page.items() if name.startswith("carbon_router_") and rows}

    def pushed():
        """Of the latest push: values by the name on the page and labels."""
        resource, scope, found = gateway.collector.pushes.get(timeout=30)
        assert scope == ("carbon-router", "https://opentelemetry.io/schemas/1.36.0")
        assert resource["service.name"] == "carbon-router"
        words = {"s": "_seconds", "By": "_bytes", "J": "_joules", "g": "_grams"}
        values = {}
        for metric in found.values():
            name = metric.name.replace(".", "_") + words.get(metric.unit, "")
            kind = metric.WhichOneof("data")
            for point in getattr(metric, kind).data_points:
                labels = frozenset(attributes(point.attributes).items())
                if kind == "histogram":
                    values[f"{name}_count", labels] = point.count
                elif kind == "sum" and metric.sum.is_monotonic:
                    values[f"{name}_total", labels] = point.as_double
                else:
                    values[name, labels] = point.as_double
        return values

    def totals(page):
        return {
            (name, frozenset(labels.items())): value
            for name, rows in page.items()
            for labels, value in rows
            if name.startswith("carbon_router_") and name.endswith(("_total", "_count"))
        }

    async def same():
        before = totals(await gateway.metrics())
        values = await asyncio.to_thread(pushed)
        missing = {name for name, _ in before} - {name for name, _ in values}
        # Those of pushes themselves move on with each.
        moving = ("metric_pushes", "state_store", "log_records")
        steady = {k: v for k, v in before.items() if not any(one in k[0] for one in moving)}
        return not missing and all(values.get(key) == value for key, value in steady.items())

    await until(same, "a push that has what the page has")
    assert "carbon_router_build_info" in shown


async def test_what_no_director_saw_has_a_span_and_its_line_leads_there(gateway):
    await asyncio.to_thread(gateway.collector.rest)
    assert await asyncio.to_thread(post, gateway.http, b"{") == 400
    async with gateway.client() as client:
        await client.refusal(b"\x08nonsense")
        await client.refusal(ask(model="nobody's"))
    refused = {}
    while len(refused) < 3:
        *_, span = await asyncio.to_thread(gateway.collector.spans.get, timeout=30)
        told = attributes(span.attributes)
        if told["carbon_router.outcome"] == "refused":
            refused[span.name, told["carbon_router.reason"]] = span
    method = "inference.GRPCInferenceService/ModelInfer"
    assert set(refused) == {
        ("POST /v1/chat/completions", "request_malformed"),
        (method, "request_malformed"),
        (method, "model_unknown"),
    }
    # The other's line repeats one of a moment ago, and is held back.
    ids = {
        (span.trace_id, span.span_id)
        for (_, reason), span in refused.items()
        if reason == "request_malformed"
    }
    found = set()
    while not ids <= found:
        *_, record = await asyncio.to_thread(gateway.collector.records.get, timeout=30)
        found.add((record.trace_id, record.span_id))


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "router.cli", *arguments],
        capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


async def test_a_terminal_sees_what_the_page_counts(gateway):
    async def asked():
        async with gateway.client() as client:
            while True:
                await client.receipt(x_residency="eu", x_latency_budget_ms="20000")
                await client.refusal(ask(model="nobody's"))
                await asyncio.sleep(0.05)

    asking = asyncio.ensure_future(asked())
    try:
        tail, once = await asyncio.gather(
            asyncio.to_thread(command, "tail", gateway.admin, "-n", "3", "--region", "north"),
            asyncio.to_thread(command, "top", gateway.admin, "--once"),
        )
    finally:
        asking.cancel()
    assert tail.returncode == once.returncode == 0, tail.stderr + once.stderr
    assert tail.stdout.count("-> north/green-0") == 3
    assert "of 20000" in tail.stdout and "emulated" in tail.stdout
    assert "EMULATED servers: all" in once.stdout
    await until(gateway.idle, "the last answer")
    told = await asyncio.to_thread(command, "top", gateway.admin, "--once", "--json")
    frame = json.loads(told.stdout)
    page = await gateway.metrics()
    grams = sum(value for _, value in page["carbon_router_gco2e_grams_total"])
    assert frame["totals"]["gco2e_g"] == pytest.approx(grams)
    assert [one["name"] for one in frame["regions"]] == ["north", "here"]
    assert [one["intensity"]["g"] for one in frame["regions"]] == [
        value
        for _, value in sorted(
            page["carbon_router_grid_intensity_g_per_kwh"], key=lambda row: row[1]
        )
    ]


@pytest.fixture
def prometheus(gateway, tmp_path):
    """A real one that scrapes it every second by the shipped rules; its address."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("LOUD: prometheus is not on PATH, the dashboard's queries were not run")
    shutil.copy(DOCKER / "prometheus" / "rules.yml", tmp_path)
    told = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": "carbon-router", "static_configs": [{"targets": [gateway.admin]}]}
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(told))
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [
        program, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
        f"--web.listen-address={address}", "--enable-feature=exemplar-storage",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            yield address
        finally:
            process.terminate()
            process.wait()


def api(address, path):
    with closing(HTTPConnection(address, timeout=30)) as connection:
        connection.request("GET", f"/api/v1/{path}")
        with connection.getresponse() as reply:
            return json.loads(reply.read())


async def answer(address, query):
    told = await asyncio.to_thread(api, address, f"query?query={quote(query)}")
    assert told["status"] == "success", (query, told)
    return told["data"]["result"]


async def test_every_query_is_answered_by_a_real_prometheus(gateway, prometheus):
    # Rates take two scrapes, and what is recorded of them a round of rules.
    wanted = [query for _, query in queries() if not named_in(query) & WITHOUT.keys()]

    async def answered():
        try:
            while wanted and await answer(prometheus, wanted[-1]):
                wanted.pop()
        except (OSError, ValueError):
            # It begins, and says so in words.
            return False
        return not wanted

    await until(answered, f"an answer to the last of {wanted}")
    for _, query in queries():
        # The others have none here, but are queries.
        await answer(prometheus, query)
    rules = await asyncio.to_thread(api, prometheus, "rules")
    health = {
        rule["name"]: rule["health"] for group in rules["data"]["groups"] for rule in group["rules"]
    }
    assert set(health.values()) == {"ok"}, health
    path = "query_exemplars?query=carbon_router_decision_seconds_bucket&start=0&end=9999999999"
    exemplars = await asyncio.to_thread(api, prometheus, path)
    assert exemplars["data"][0]["exemplars"][0]["labels"]["trace_id"]

"""Batches whose lines name an alias: variants, a cascade, and variants that go while lines wait."""

import contextlib
import json
import signal
from collections import Counter

import aiohttp
import duckdb
import pytest

from router.ledger.reading import relation
from router.ledger.tables import RECEIPTS
from tests.e2e.conftest import closing_children
from tests.e2e.harness import MODEL, Gateway, base, emulator, endpoint, until
from tests.e2e.test_batches import (
    GATEWAYS,
    KILLS,
    LINES,
    RANDOM,
    Batches,
    all_are_answered_once,
    line,
)
from tests.ports import free_ports

SMALL, LARGE = "small", "large"
PLACES = {"chat-0": SMALL, "chat-1": SMALL, "chat-large": LARGE}
# Answers of emulated servers say how long they are: odd ones of the small model are not accepted.
DOUBTED = [f"{odd} units of {SMALL}" for odd in range(1, 10, 2)]
ALIAS = {"source": "made up", "variants": {SMALL: 0.4, LARGE: 0.8}}
ALIASES = {
    "chat": ALIAS,
    "best": {**ALIAS, "floor": 0.8},
    "judged": {**ALIAS, "judge": {"kind": "rules", "phrases": DOUBTED}},
}


def configured(folder, http, **changes):
    """Two servers of a small model and one of a large one, of which each takes a few at once."""
    endpoints = []
    for (name, model), port in zip(PLACES.items(), free_ports(len(PLACES)), strict=True):
        one = endpoint(name, "north", f"127.0.0.1:{port}", protocol="openai")
        one["models"] = [{"name": model, "profile": f"{model}@test", "context_tokens": 10_000}]
        endpoints.append(one)
    config = base(endpoints)
    profile, lengths = config["profiles"].pop("fast@test"), config["models"].pop(MODEL)
    slower = {**profile, "tpot_base_ms": 10}
    config["profiles"] = {f"{SMALL}@test": profile, f"{LARGE}@test": slower}
    config["models"] = {SMALL: lengths, LARGE: lengths}
    config["server"] = {**config["server"], "http": f"127.0.0.1:{http}"}
    config["aliases"] = ALIASES
    config["deferral"] = {"dir": "deferred"}
    config["ledger"] = {"dir": "ledger"}
    return {**config, **changes}


def others(config, http):
    """The configuration of another gateway before the same servers."""
    listen, admin = free_ports(2)
    server = {"listen": f"127.0.0.1:{listen}", "admin": f"127.0.0.1:{admin}"}
    ledger = {**config["ledger"], "name": f"gateway-{http}"}
    return {**config, "server": {**server, "http": f"127.0.0.1:{http}"}, "ledger": ledger}


def kept(folder):
    """What the ledger has of each attempt."""
    names = "decision_id, outcome, reason, variant, model, gco2e"
    rows = relation(duckdb.connect(), folder / "ledger", RECEIPTS).project(names)
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]


def asked_of(alias, number):
    # An answer that its limit ends is accepted, whatever it says: this one says all it has to.
    return line(f"{alias}-{number}", alias, output_tokens=RANDOM.randint(4, 30))


async def test_each_line_is_answered_once_by_a_variant_though_gateways_are_killed(tmp_path):
    """Each is counted once, too: in the files, in the batch's sums, and by its decision in the
    ledger, of which a killed gateway may lack the last rows."""
    ports = free_ports(GATEWAYS)
    first = configured(tmp_path, ports[0])
    configs = [first, *(others(first, port) for port in ports[1:])]
    lines = [asked_of(list(ALIASES)[at % len(ALIASES)], at) for at in range(LINES)]
    done, answers = await all_are_answered_once(tmp_path, ports, configs, KILLS, lines=lines)
    found: Counter[tuple[str, str]] = Counter()
    for one in answers:
        alias = one["custom_id"].partition("-")[0]
        model, carbon = one["response"]["body"]["model"], one["carbon"]
        assert carbon["variant"] == model
        found[alias, model] += 1
        flags = carbon.get("flags", [])
        if alias == "judged" and model == LARGE:
            assert "escalated" in flags and carbon["lost_attempts_gco2e"] > 0.0
        elif alias == "judged":
            # There is time to wait for a place at the better one.
            said = one["response"]["body"]["choices"][0]["message"]["content"]
            assert not any(phrase in said for phrase in DOUBTED), flags
    assert found["best", SMALL] == 0 and found["chat", SMALL] > 0
    assert found["judged", SMALL] > 0 and found["judged", LARGE] > 0
    sums = done["carbon"]
    assert sums["gco2e_answers"] == LINES
    assert sums["gco2e"] == pytest.approx(sum(one["carbon"]["gco2e"] for one in answers), rel=1e-4)
    told = {one["carbon"]["decision_id"]: one for one in answers}
    assert len(told) == LINES
    rows = [row for row in kept(tmp_path) if row["decision_id"] in told]
    ends = Counter(row["decision_id"] for row in rows if row["outcome"] == "answered")
    assert set(ends.values()) == {1}
    # What a killed gateway had not written yet is missing, and no more.
    assert len(ends) >= LINES - 64 * KILLS
    for row in rows:
        if row["outcome"] == "answered":
            carbon = told[row["decision_id"]]["carbon"]
            assert row["variant"] == carbon["variant"]
            assert row["gco2e"] == pytest.approx(carbon["gco2e"], abs=1e-7)


@contextlib.contextmanager
def before_nobody(folder, **changes):
    """A gateway whose servers are not there yet: what waits does, until they come."""
    (http,) = free_ports(1)
    config = configured(folder, http, **changes)
    with closing_children() as children:
        gateway = Gateway(folder, config)
        children.append(gateway)

        def begin(fleet):
            children.append(emulator(folder, fleet))

        yield gateway, f"127.0.0.1:{http}", begin


async def test_what_waits_is_answered_by_the_variants_that_are_left(tmp_path):
    """Of an alias that lost one; by whoever asked for more than those are, and of one that is gone
    altogether, each line says so, and no other is held up by it."""
    with before_nobody(tmp_path) as (gateway, address, begin):
        async with aiohttp.ClientSession() as session:
            client = Batches(session, address)
            demanding = Batches(session, address, x_quality_floor="0.8")
            names = ["chat-1", "judged-2", "best-3", "chat-4"]
            text = "".join(line(name, name.partition("-")[0], output_tokens=6) for name in names)
            mixed = await client.begin(text)
            floored = await demanding.begin(line("chat-5", "chat"))

            async def all_are_read():
                totals = [
                    (await client.get(one))["request_counts"]["total"] for one in (mixed, floored)
                ]
                return totals == [4, 1]

            await until(all_are_read, "lines that wait")
            left = {"source": "made up", "variants": {SMALL: 0.4}}
            smalls = gateway.config["endpoints"][:2]
            fewer = {
                "endpoints": smalls,
                "models": {SMALL: gateway.config["models"][SMALL]},
                "aliases": {"chat": left, "judged": left},
            }
            gateway.write(**fewer)
            gateway.tell(signal.SIGHUP)
            begin({**gateway.config, **fewer})
            done, refused = await client.ended(mixed), await client.ended(floored)
            assert done["request_counts"] == {"total": 4, "completed": 3, "failed": 1}
            for one in await client.lines(done["output_file_id"]):
                assert one["response"]["body"]["model"] == one["carbon"]["variant"] == SMALL
            (gone,) = await client.lines(done["error_file_id"])
            assert gone["custom_id"] == "best-3"
            assert gone["response"]["status_code"] == 404
            assert gone["response"]["body"]["error"]["code"] == "model_unknown"
            (above,) = await client.lines(refused["error_file_id"])
            assert above["response"]["status_code"] == 400
            assert "no variant of 'chat'" in above["response"]["body"]["error"]["message"]


async def test_what_asks_for_servers_that_are_still_to_be_found_waits_for_them(tmp_path):
    """They are found, and lost again: nothing that waits for them ends, or holds up others."""
    template = {"models": [{"name": SMALL, "profile": f"{SMALL}@test", "context_tokens": 10_000}],
                "max_in_flight": 8, "protocol": "openai", "emulated": True}  # fmt: skip
    found = {"kind": "file", "name": "pods", "path": "pods.json", "look_s": 0.05,
             "template": template}  # fmt: skip
    (http,) = free_ports(1)
    whole = configured(tmp_path, http)
    one, another, large = whole["endpoints"]
    pods = tmp_path / "pods.json"

    def tell_of(*ones):
        aside = pods.with_suffix(".new")
        listed = [{key: pod[key] for key in ("name", "address", "region")} for pod in ones]
        aside.write_text(json.dumps({"endpoints": listed}))
        aside.replace(pods)

    tell_of(one)
    config = {**whole, "endpoints": [large], "discovery": [found], "aliases": {
        "chat": {"source": "made up", "variants": {SMALL: 0.4}}}}  # fmt: skip
    with closing_children() as children:
        children.append(emulator(tmp_path, whole))
        gateway = Gateway(tmp_path, config)
        children.append(gateway)
        async with aiohttp.ClientSession() as session:
            client = Batches(session, f"127.0.0.1:{http}")

            def seen(*names):
                async def they_are():
                    return set(await gateway.endpoints()) == {*names}

                return until(they_are, f"{names}")

            await seen("chat-large", "pods/chat-0")
            tell_of()
            await seen("chat-large")
            waiting = await client.begin(line("alias", "chat") + line("model", SMALL))
            served = await client.ended(await client.begin(line("large", LARGE)))
            assert served["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
            counts = (await client.get(waiting))["request_counts"]
            assert counts == {"total": 2, "completed": 0, "failed": 0}
            tell_of(another)
            done = await client.ended(waiting)
            assert done["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


async def test_a_spent_budget_puts_off_a_cascade_and_what_has_no_time_left_is_judged_as_ever(
    tmp_path,
):
    """What waits for the next day begins then; what cannot is answered, and judged, at once."""
    (http,) = free_ports(1)
    budget = {"per": "tenant", "g_per_day": 1e-6, "on_exhausted": "defer"}
    config = configured(
        tmp_path, http, carbon_budget=budget, clock={"start": "2023-05-14T12:00:00Z"}
    )
    with closing_children() as children:
        children.append(emulator(tmp_path, config))
        gateway = Gateway(tmp_path, config)
        children.append(gateway)
        async with aiohttp.ClientSession() as session:
            client = Batches(session, f"127.0.0.1:{http}", x_tenant="acme")
            asked = json.loads(line("now", "judged", output_tokens=9))["body"]
            status, told = await client.ask("POST", "/v1/chat/completions", json=asked)
            assert (status, told["error"]["code"]) == (429, "carbon_budget_exhausted")
            later = await client.begin(line("later", "judged", output_tokens=9))
            soon = await client.begin(
                line("soon", "judged", output_tokens=9), completion_window="1m"
            )
            done = await client.ended(soon)
            assert done["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
            (answer,) = await client.lines(done["output_file_id"])
            carbon = answer["carbon"]
            assert {"carbon_budget_exhausted", "greenest_only"} <= set(carbon["flags"])
            # Only ``variant`` lets quality give way.
            assert carbon["variant"] == LARGE and "escalated" in carbon["flags"]

            async def is_put_off():
                return await gateway.total("deferred_requests_total", outcome="put_back") > 0

            await until(is_put_off, "a line that is put off")
            assert (await client.get(later))["status"] == "in_progress"

"""What a console's feed says, and an admin port that says anything at all."""

import json
import socket
import threading

HOSTILE = "x\x1b[2J\x1b]0;owned\x07\u202ename\r\n[bold]y[/bold]"


def fleet(regions=("north", "south"), name=str, **changes):
    made = {
        "format": 1, "policy": "carbon-first", "scope": "all", "is_all": True, "emulated": "none",
        "processes": 1, "speed": 1.0,
        "regions": [{"name": name(one), "zone": name(one.upper()), "pue": 1.1} for one in regions],
        "endpoints": [
            {"name": name(f"{one}-{i}"), "region": name(one), "models": [], "emulated": False,
             "max_in_flight": 8}
            for one in regions for i in range(2)
        ],
    }  # fmt: skip
    return {**made, **changes}


def grid(regions=("north", "south"), name=str, g=(300.0, 20.0)):
    return {
        "version": 1,
        "zones": {
            name(one.upper()): {
                "now": {"g": value, "low": 1.0, "high": 400.0, "kind": name("measured"),
                        "source": name("live"), "observed_at": 1.0, "stale": False},
                "ahead": {"start": 0.0, "step_s": 3600.0, "g": [value] * 24},
            }
            for one, value in zip(regions, g, strict=False)
        },
    }  # fmt: skip


def tick(regions=("north", "south"), name=str, rates=True, **changes):
    made = {
        "at": 1_700_000_000.0, "wall": 1_700_000_000.0, "mono": 1.0,
        "totals": {"gco2e_g": 5.0, "saved_g": 3.0, "excess_g": 1.0, "energy_j": 9.0,
                   "unaccounted": 0.0, "grams_kinds": {name("measured/estimated"): 5.0}},
        "rates": {
            "seconds": 10.0, "gco2e_g_per_s": 0.5, "saved_g_per_s": 0.5, "requests_per_s": 12.0,
            "watts": 100.0, "budgets_met": 0.975,
            "regions": {name(regions[0]): {"requests_per_s": 12.0, "gco2e_g_per_s": 0.5}},
        } if rates else None,
        "own": None,
        "endpoints": [[0, 3, True, ""], [1, 0, False, name("failing")]] * len(regions),
        "latency": {"window_s": 60.0, "models": [
            {"model": name("llama"), "requests": 7, "ttft_ms": [100.0, 200.0],
             "e2e_ms": [1000.0, 2000.0], "e2e_budget": None,
             "ttft_budget": {"least_ms": 300.0, "met": 3, "missed": 1}},
        ]},
        "budgets": [{"budget": name("day"), "per": "tenant", "name": name("acme"), "limit_g": 100.0,
                     "spent_g": 95.0, "reserved_g": 0.0, "left_g": 5.0, "shadow": False}],
        "status": {"status": "degraded", "reasons": [
            {"reason": "reload_refused", "detail": name("why"), "blocking": False}
        ]},
        "decisions": {"share": 0.25},
    }  # fmt: skip
    return {**made, **changes}


def decision(key="d1", name=str, **changes):
    made = {
        "key": key, "id": name("gw-1"), "request_id": "", "at": 1_700_000_000.0, "kind": "first",
        "attempt": 1, "model": name("llama"), "tenant": name("acme"), "origin": "",
        "budget": {"ttft_ms": None, "tpot_ms": None, "e2e_ms": 2000.0}, "refusal": "",
        "probability": 0.25, "policy": "p", "receipt": None, "endpoint": name("north-0"),
        "region": name("north"), "zone": "NORTH", "emulated": False, "gco2e_g": 0.25,
        "energy_j": 9.0, "ttft_ms": 90.0, "e2e_ms": 900.0,
        "latency_first": {"endpoint": "south-0", "region": name("south"), "gco2e_g": 1.0},
        "relaxed": [], "flags": [name("carbon_stale")],
    }  # fmt: skip
    return {**made, **changes}


def event(name, document, event_id="b-1"):
    return f"id: {event_id}\nevent: {name}\ndata: {json.dumps(document)}\n\n".encode()


BEGINNING = event("fleet", fleet()) + event("grid", grid())
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n"


class AdminPort:
    """Answers each connection with the next of ``answers``, bytes or parts with waits between them;
    the last for ever. ``asked``: the head of each request."""

    def __init__(self, *answers):
        self.asked = []
        self._answers = list(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    part = connection.recv(65536)
                    if not part:
                        break
                    head += part
                self.asked.append(head.decode(errors="replace"))
                answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                try:
                    connection.sendall(answer)
                except OSError:
                    continue

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()
        # `accept` does not end by itself.
        try:
            host, port = self.address.split(":")
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            pass
        self._thread.join(5)

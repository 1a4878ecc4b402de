"""What `serve`, `check` and `emulate` do with a file that is wrong: exit code 2, file and key."""

import socket
import subprocess
import sys

import pytest
import yaml

from router import cli
from tests.e2e.harness import ROOT, base, pair

CYCLE = """\
version: 1
policy: {budget: &loop {ttft_ms: *loop}}
"""
DUPLICATE_KEY = "version: 1\npolicy: carbon-first\npolicy: balanced\n"


def text_of(**changes):
    return yaml.safe_dump({**base(pair()), **changes})


def repeated():
    green, near = pair()
    return {"endpoints": [green, {**near, "name": green["name"]}]}


def same_address():
    green, near = pair()
    return {"endpoints": [green, {**near, "address": green["address"]}]}


WRONG = {
    "cycle": (CYCLE, "line 2: an alias contains itself"),
    "duplicate key": (DUPLICATE_KEY, "policy"),
    "duplicate endpoint": (text_of(**repeated()), "endpoints[1].name"),
    "duplicate address": (text_of(**same_address()), "endpoints[1].address"),
    "unknown key": (text_of(servr={}), "servr"),
    "unknown region": (
        text_of(endpoints=[{**pair()[0], "region": "mars"}]), "endpoints[0].region",
    ),
    "wrong unit": (text_of(server={"drain_s": "30s"}), "server.drain_s"),
    "unknown grid zone": (text_of(carbon={"sources": [{"kind": "climatology"}]}), "grid_zone"),
    "a budget nobody meets": (
        text_of(policy={"weights": {"per_gco2e": 1}, "budget": {"ttft_ms": 1}}), "policy.budget",
    ),
    "not YAML": ("{", ""),
    "no mapping": ("- 1\n", ""),
    "empty": ("", ""),
}  # fmt: skip


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(("text", "key"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_before_anything_listens(tmp_path, capsys, command, text, key):
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit) as caught:
        cli.main([command, str(path)])
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    # A gateway says before that it starts.
    (reason,) = [line for line in said.err.splitlines() if line.endswith("_invalid:")]
    assert reason == "config_invalid:"
    named = [line for line in said.err.splitlines() if str(path) in line and key in line]
    assert named, said.err
    assert "Traceback" not in said.err


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "router.cli", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_process_of_workers_says_so_too(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(text_of(**repeated()))
    code, out, error = run("serve", str(path), "--workers", "2")
    assert (code, out) == (2, "")
    assert f"{path}: endpoints[1].name" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_malformed_carbon_table_is_named_once(tmp_path, workers):
    (tmp_path / "grid.csv").write_text("datetime,GREEN\n2022-05-14T00:00Z,much\n")
    path = tmp_path / "gateway.yaml"
    path.write_text(text_of(carbon={"sources": [{"kind": "trace", "file": "grid.csv"}]}))
    code, _, error = run("serve", str(path), "--workers", workers)
    assert code == 2
    assert "\ntrace_invalid:\ngrid.csv" in error
    assert error.count("grid.csv") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize("key", ["listen", "admin"])
def test_a_taken_port_is_refused_by_file_and_key(tmp_path, key):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = base(pair())
        config["server"][key] = f"127.0.0.1:{taken.getsockname()[1]}"
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(config))
        code, out, error = run("serve", str(path))
    assert (code, out) == (2, "")
    assert f"{path}: server.{key}: cannot listen on" in error
    assert "Traceback" not in error


def test_an_emulator_needs_something_to_emulate(tmp_path, capsys):
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(base(pair(emulated=False))))
    with pytest.raises(SystemExit) as caught:
        cli.main(["emulate", str(path)])
    assert caught.value.code == 2
    assert f"{path}: endpoints" in capsys.readouterr().err


def test_a_sound_file_passes(tmp_path, capsys):
    path = tmp_path / "gateway.yaml"
    path.write_text(text_of())
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", str(path)])
    assert not caught.value.code
    assert "valid" in capsys.readouterr().out

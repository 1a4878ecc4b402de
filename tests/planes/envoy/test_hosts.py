import json

from router.planes.envoy.hosts import HostFiles, hosts_file
from router.planes.envoy.seats import EnvoyHost

HERE = EnvoyHost("a", "oip", "127.0.0.1:1")
THERE = EnvoyHost("b", "oip", "[::1]:2")


def told(folder, protocol):
    (assignment,) = json.loads(hosts_file(folder, protocol).read_text())["resources"]
    (all_of_them,) = assignment["endpoints"]
    return [
        tuple(one["endpoint"]["address"]["socket_address"].values())
        for one in all_of_them["lb_endpoints"]
    ]


def test_each_protocol_has_a_file_of_its_hosts(tmp_path):
    files = HostFiles(tmp_path, ["oip", "openai"])
    # Renamed and not gone yet: one host all the same.
    files.write([HERE, THERE, HERE._replace(name="c"), EnvoyHost("h", "openai", "127.0.0.1:3")])
    assert told(tmp_path, "oip") == [("127.0.0.1", 1), ("::1", 2)]
    assert told(tmp_path, "openai") == [("127.0.0.1", 3)]
    assert files.counts() == {"oip": 2, "openai": 1}


def test_what_is_the_same_is_not_written_again(tmp_path):
    files = HostFiles(tmp_path, ["oip", "openai"])
    files.write([HERE])
    before, written = dict(files.versions), hosts_file(tmp_path, "openai").stat().st_mtime_ns
    files.write([HERE, THERE])
    assert files.versions["oip"] != before["oip"]
    assert files.versions["openai"] == before["openai"]
    assert hosts_file(tmp_path, "openai").stat().st_mtime_ns == written
    files.write([HERE])
    assert files.versions == before


def test_nobody_is_a_file_too_and_protocols_without_a_listener_have_none(tmp_path):
    HostFiles(tmp_path, ["oip"]).write([EnvoyHost("h", "openai", "127.0.0.1:3")])
    assert told(tmp_path, "oip") == [] and not hosts_file(tmp_path, "openai").exists()

"""What discovery finds steers only within bounds, and whatever it says, what stands in the file
stays."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.app.loading import load
from router.config import found as module
from router.config.found import MAX_NAME, merge, with_stand_ins
from router.errors import ConfigError
from router.model import FoundEndpoint
from tests.config.samples import write

MODEL = "llama-3.1-8b"
TEMPLATE = {"models": [{"name": MODEL, "profile": "llama-3.1-8b@1xh100"}], "max_in_flight": 64}
PLACE = {"kind": "file", "name": "pods", "path": "pods.yaml", "template": TEMPLATE}


def place(**changes):
    return {**PLACE, "region": "us-west", **changes}


@pytest.fixture
def configure(tmp_path):
    def made(*places, **changes):
        return load(write(tmp_path, {"discovery": list(places) or [place()], **changes}))

    return made


def found(name="a", address="10.0.0.1:8000", region="", **labels):
    return FoundEndpoint(
        name, address, region, {key.replace("__", "/"): labels[key] for key in labels}
    )


def merged(config, *endpoints):
    return merge(config, {"pods": endpoints})


def test_what_is_found_joins_what_stands_in_the_file(configure):
    config = configure(place(template={**TEMPLATE, "metrics": {"engine": "vllm"}}))
    got = merged(config, found())
    west, east, new = got.config.fleet.endpoints
    assert [west.name, east.name] == ["west-0", "east-0"]
    assert (new.name, new.address, new.region) == ("pods/a", "10.0.0.1:8000", "us-west")
    assert (new.metrics_url, new.engine) == ("http://10.0.0.1:8000/metrics", "vllm")
    assert (new.max_in_flight, new.models[0].name) == (64, MODEL)
    assert got.left_out == ()
    assert got.config.most_endpoints == 3 + 256


def test_the_page_of_metrics_may_have_a_port_of_its_own(configure):
    metrics = {"engine": "triton", "port": 8002, "path": "/v2/metrics"}
    config = configure(place(template={**TEMPLATE, "metrics": metrics}))
    endpoint = merged(config, found(address="[fd00::1]:8001")).config.fleet.endpoints[-1]
    assert endpoint.metrics_url == "http://[fd00::1]:8002/v2/metrics"


@pytest.mark.parametrize(
    ("changes", "one", "region"),
    [
        ({}, found(region="us-east"), "us-east"),
        ({}, found(region="mars"), "us-west"),
        ({"regions": {"use1-az1": "us-east"}}, found(topology__zone="use1-az1"), "us-west"),
        (
            {"regions": {"use1-az1": "us-east"}, "region_labels": ["topology/zone"]},
            found(topology__zone="use1-az1"),
            "us-east",
        ),
    ],
)
def test_a_region_is_said_or_mapped_or_stands_in(configure, changes, one, region):
    assert merged(configure(place(**changes)), one).config.fleet.endpoints[-1].region == region


def test_the_narrower_label_counts_first(configure):
    regions = {"use1-az1": "us-east", "us": "us-west"}
    labels = {"topology.kubernetes.io/zone": "use1-az1", "topology.kubernetes.io/region": "us"}
    config = configure(place(regions=regions))
    got = merge(config, {"pods": [FoundEndpoint("a", "10.0.0.1:1", "", labels)]})
    assert got.config.fleet.endpoints[-1].region == "us-east"


LEFT_OUT = {
    "no name": (found(name=""), "name"),
    "a name with a blank": (found(name="a b"), "name"),
    "a long name": (found(name="a" * MAX_NAME), "name"),
    "no port": (found(address="10.0.0.1"), "host:port"),
    "port 0": (found(address="10.0.0.1:0"), "port"),
    "a path": (found(address="10.0.0.1:80/x"), "host:port"),
    "a scheme": (found(address="http://10.0.0.1:80"), "host:port"),
    "a long address": (found(address="a" * 300 + ":80"), "too long"),
    "metadata of a cloud": (found(address="169.254.169.254:80"), "no address of a server"),
    "metadata as IPv6 has it": (
        found(address="[::ffff:169.254.169.254]:80"),
        "no address of a server",
    ),
    "metadata as a number": (found(address="2852039166:80"), "neither a name"),
    "metadata in hexadecimal": (found(address="0xA9.254.0xA9FE:80"), "neither a name"),
    "nowhere": (found(address="0.0.0.0:80"), "no address of a server"),
    "everybody": (found(address="[ff02::1]:80"), "no address of a server"),
    "an address of the file": (found(address="127.0.0.1:9001"), "another has the address"),
    "that with zeros": (found(address="127.0.0.1:09001"), "another has the address"),
    "that as IPv6 has it": (found(address="[::ffff:7f00:1]:9001"), "another has the address"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_cannot_be_used_is_left_out_alone(configure, case):
    one, why = LEFT_OUT[case]
    got = merged(configure(), one, found(name="good", address="10.0.0.9:80"))
    assert [e.name for e in got.config.fleet.endpoints[2:]] == ["pods/good"]
    (left_out,) = got.left_out
    assert why in left_out.why


def test_whoever_says_not_where_it_is_is_left_out(configure):
    got = merged(configure(place(region="")), found(), found("b", "10.0.0.2:1", "mars"))
    assert [one.why for one in got.left_out] == [
        "it does not say where it is",
        "it says 'mars', which regions maps to none",
    ]


def test_addresses_lie_in_the_networks(configure):
    config = configure(place(networks=["10.0.0.0/8", "fd00::/8"]))
    inside = [found("a", "10.1.2.3:80"), found("b", "[fd00::2]:80")]
    outside = [found("c", "192.168.0.1:80"), found("d", "name.example:80")]
    got = merged(config, *inside, *outside)
    assert [e.name for e in got.config.fleet.endpoints[2:]] == ["pods/a", "pods/b"]
    assert [one.name for one in got.left_out] == ["'c'", "'d'"]


def test_there_are_no_more_than_there_may_be_whatever_their_order(configure):
    config = configure(place(max_endpoints=2))
    three = [found(name, f"10.0.0.{i}:80") for i, name in enumerate("cab", 1)]
    for order in (three, three[::-1]):
        got = merged(config, *order)
        assert [e.name for e in got.config.fleet.endpoints[2:]] == ["pods/a", "pods/b"]
        assert "max_endpoints" in got.left_out[0].why


def test_who_comes_first_of_one_name_is_the_same_whatever_their_order(configure):
    config = configure()
    two = [found("a", "10.0.0.2:80"), found("a", "10.0.0.1:80")]
    for order in (two, two[::-1]):
        got = merged(config, *order)
        assert got.config.fleet.endpoints[-1].address == "10.0.0.1:80"
        assert "another has this name" in got.left_out[0].why


def test_those_that_nobody_looks_at_are_told(configure, monkeypatch):
    monkeypatch.setattr(module, "MAX_FOUND", 2)
    three = [found(name, f"10.0.0.{i}:80") for i, name in enumerate("cab", 1)]
    got = merged(configure(), *three)
    assert [e.name for e in got.config.fleet.endpoints[2:]] == ["pods/a", "pods/b"]
    assert [(one.name, one.why) for one in got.left_out] == [("'c'", "the place tells of over 2")]


def test_addresses_are_as_all_write_them(configure):
    said = ["Name.Example:080", "[FD00:0::1]:80", "[::ffff:10.0.0.1]:80"]
    got = merged(configure(), *(found(name, one) for name, one in zip("abc", said, strict=True)))
    addresses = [e.address for e in got.config.fleet.endpoints[2:]]
    assert addresses == ["name.example:80", "[fd00::1]:80", "10.0.0.1:80"]


def test_keys_and_tls_go_to_what_is_found(configure, tmp_path):
    (tmp_path / "key").write_text("secret")
    config = configure(place(template={**TEMPLATE, "tls": {}, "credentials": {"file": "key"}}))
    access = merged(config, found()).config.settings.access
    assert access["10.0.0.1:8000"].tls is not None
    assert access["10.0.0.1:8000"].credentials is not None
    assert not config.settings.access


def test_a_place_that_is_not_configured_adds_nothing(configure):
    got = merge(configure(), {"others": [found()]})
    assert len(got.config.fleet.endpoints) == 2


_words = st.text(max_size=30) | st.sampled_from(["a", "b", "us-east", "10.0.0.1:80", "x" * 400])


@given(
    st.lists(
        st.builds(
            FoundEndpoint, _words, _words, _words, st.dictionaries(_words, _words, max_size=3)
        )
    )
)
def test_whatever_is_found_the_fleet_is_sound(sound_base, listed):
    got = merge(sound_base, {"pods": listed})
    endpoints = got.config.fleet.endpoints
    assert endpoints[:2] == sound_base.fleet.endpoints
    assert len({e.name for e in endpoints}) == len(endpoints)
    assert len({e.address for e in endpoints}) == len(endpoints)
    assert all(e.region in sound_base.fleet.regions for e in endpoints)
    assert len(endpoints) - 2 + len(got.left_out) == len(listed)


@pytest.fixture(scope="module")
def sound_base(tmp_path_factory):
    return load(write(tmp_path_factory.mktemp("base"), {"discovery": [place()]}))


def test_stand_ins_say_where_something_may_be_found(configure):
    config = configure()
    names = [
        (e.name, e.region)
        for e in with_stand_ins(config.fleet, config.settings.discovery).endpoints
    ]
    assert sorted(names[2:]) == [("pods/*", "us-east"), ("pods/*", "us-west")]


def test_a_fleet_may_be_found_altogether(configure):
    config = configure(
        endpoints=[],
        models={MODEL: {"input_tokens": 1, "output_tokens": 1, "output_tokens_p95": 2}},
    )
    assert config.fleet.endpoints == ()
    assert list(config.fleet.priors) == [MODEL]
    assert dataclasses.replace(config.fleet) == config.fleet


WRONG = {
    "nobody": ({"discovery": []}, "endpoints", "must not be empty"),
    "a name twice": ({"discovery": [place(), place()]}, "discovery[1].name", "already used"),
    "an unknown region": ({"discovery": [place(region="mars")]}, "discovery[0].region", "mars"),
    "a region to nowhere": (
        {"discovery": [place(regions={"x": "mars"})]},
        "discovery[0].regions.x",
        "mars",
    ),
    "no folder": (
        {"discovery": [place(path="no/pods.yaml")]},
        "discovery[0].path",
        "no such folder",
    ),
    "no model": (
        {"discovery": [place(template={**TEMPLATE, "models": []})]},
        "discovery[0].template.models",
        "must not be empty",
    ),
    "an unknown profile": (
        {"discovery": [place(template={**TEMPLATE, "models": [{"name": "m", "profile": "no"}]})]},
        "discovery[0].template.models[0].profile",
        "unknown profile",
    ),
    "another protocol": (
        {"discovery": [place(template={**TEMPLATE, "protocol": "openai"})]},
        "discovery[0].template.models[0].name",
        "is served over oip by endpoints[0]",
    ),
    "no network": (
        {"discovery": [place(networks=["10.0.0.1/8"])]},
        "discovery[0].networks[0]",
        "10.",
    ),
    "no label": (
        {"discovery": [place(region_labels=["a b"])]},
        "discovery[0].region_labels[0]",
        "label",
    ),
}


def in_cluster(**changes):
    made = {"kind": "kubernetes", "name": "pods", "namespace": "green", "template": TEMPLATE}
    return {"discovery": [{**made, **changes}]}


def by_dns(**changes):
    record = {"kind": "dns", "name": "pods", "record": "_http._tcp.pods.example"}
    return {"discovery": [{**record, "region": "us-west", "template": TEMPLATE, **changes}]}


WRONG |= {
    "neither": (in_cluster(), "discovery[0]", "service or inference_pool"),
    "both": (in_cluster(service="a", inference_pool="b"), "discovery[0]", "one of them"),
    "a port of a pool": (in_cluster(inference_pool="b", port=1), "discovery[0]", "is of a service"),
    "port 0": (in_cluster(service="a", port=0), "discovery[0].port", "1"),
    "a port by a path": (in_cluster(service="a", port="a/b"), "discovery[0].port", "pattern"),
    "a context of nothing": (in_cluster(service="a", context="c"), "discovery[0]", "kubeconfig"),
    "no name of Kubernetes": (in_cluster(service="a/b"), "discovery[0].service", "pattern"),
    "records of nowhere": (by_dns(region=""), "discovery[0]", "needs region"),
    "networks of names": (by_dns(networks=["10.0.0.0/8"]), "discovery[0]", "networks are for IP"),
    "no record": (by_dns(record="a b"), "discovery[0].record", "pattern"),
    "a nameserver by name": (by_dns(nameservers=["ns:53"]), "discovery[0].nameservers[0]", "IP"),
    "an odd span": (by_dns(least_s=50, most_s=5), "discovery[0]", "less than least_s"),
    "no place": ({"discovery": [{**place(), "kind": "consul"}]}, "discovery[0]", "must be one of"),
}


def test_a_place_in_a_cluster(configure, tmp_path):
    (made,) = in_cluster(service="vllm", port=8000, kubeconfig="kube")["discovery"]
    (settings,) = configure(made).settings.discovery
    assert settings.place.port == "8000"
    assert settings.place.kubeconfig == tmp_path / "kube"
    assert "watches Kubernetes Service vllm in green by" in str(settings.place)


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(tmp_path, case):
    changes, key, text = WRONG[case]
    if case == "nobody":
        changes = {**changes, "endpoints": [], "models": {}}
    with pytest.raises(ConfigError) as raised:
        load(write(tmp_path, changes))
    assert any(where == key and text in said for where, said in raised.value.problems), (
        raised.value.problems
    )


KEYED = {**TEMPLATE, "credentials": {"file": "key"}}
SECURE = {**KEYED, "tls": {}}


@pytest.mark.parametrize(
    ("one", "lacks"),
    [
        (
            place(template=KEYED),
            "give tls, else it goes in plaintext, and networks that only your servers are in",
        ),
        (place(template=KEYED, networks=["10.0.0.0/8"]), "give tls, else it goes in plaintext"),
        (place(template=SECURE), "give networks that only your servers are in"),
        (place(template=SECURE, networks=["10.0.0.0/8"]), None),
        (place(template={**TEMPLATE, "credentials": {}}), None),
        (by_dns(template=SECURE)["discovery"][0], None),
        (by_dns(template=KEYED)["discovery"][0], "give tls, else it goes in plaintext"),
    ],
)
def test_a_key_that_whoever_is_found_gets_is_a_note(configure, tmp_path, one, lacks):
    (tmp_path / "key").write_text("secret")
    found = [note for note in configure(one).notes if "whoever it finds gets the key" in note]
    assert [note.partition("the key: ")[2] for note in found] == ([lacks] if lacks else [])

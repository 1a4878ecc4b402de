"""What strangers can reach is refused, or told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.exposure import check_exposure, exposures, is_loopback
from router.config.schema import ServerSchema
from tests.config.samples import loaded, problems

PAIR = {"cert_file": "a.crt", "key_file": "a.key"}
MUTUAL = {**PAIR, "client_ca_file": "ca.pem"}
OPEN = {"listen": "0.0.0.0:8500", "http": "[::]:8080", "admin": "10.0.0.7:9500"}


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1:1", True),
        ("127.9.8.7:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example.org:1", False),
        ("gateway:1", False),
        ("[::ffff:127.0.0.1]:1", False),
    ],
)
def test_loopback(address, here):
    assert is_loopback(address) is here


def found(server, authenticates=True):
    return {one.key: one.lacks for one in exposures(ServerSchema(**server), authenticates)}


def test_on_loopback_nothing_is_asked():
    assert found({}, authenticates=False) == {}


def test_beyond_it_each_listener_lacks_what_it_lacks():
    both = ("TLS", "authentication")
    lacking = {"server.listen": both, "server.http": both, "server.admin": both}
    assert found(OPEN, authenticates=False) == lacking
    only_tls = {"server.listen": ("TLS",), "server.http": ("TLS",), "server.admin": both}
    assert found(OPEN) == only_tls
    assert found({**OPEN, "tls": PAIR}) == {"server.admin": both}
    assert found({**OPEN, "tls": PAIR, "admin_tls": PAIR}) == {"server.admin": ("authentication",)}
    token = {"admin_token_env": "T"}
    assert found({**OPEN, "tls": PAIR, "admin_tls": PAIR, **token}) == {}


def test_a_certificate_that_is_required_says_who_calls():
    mutual = {**OPEN, "tls": MUTUAL, "admin_tls": MUTUAL}
    assert found(mutual, authenticates=False) == {}
    optional = {**mutual, "tls": {**MUTUAL, "client_auth": "optional"}}
    assert found(optional, authenticates=False) == {
        "server.listen": ("authentication",), "server.http": ("authentication",),
    }  # fmt: skip


def test_a_file_that_opens_itself_to_strangers_is_refused_with_what_mends_it(tmp_path):
    told = problems(tmp_path, {"server": OPEN})
    assert told["server.listen"].endswith(
        "give server.tls and identity, or say server.insecure: true"
    )
    assert "without TLS and authentication" in told["server.admin"]
    assert "server.admin_tls and server.admin_token_file or _env" in told["server.admin"]


def test_identity_says_who_calls(tmp_path):
    server = {"listen": "0.0.0.0:8500", "tls": PAIR}
    assert "without authentication" in problems(tmp_path, {"server": server})["server.listen"]
    (tmp_path / "keys.yaml").write_text("version: 1\n")
    known = {"server": server, "identity": {"keys_file": "keys.yaml"}}
    assert loaded(tmp_path, known).settings.exposed == ()


def test_who_says_so_is_served_and_told(tmp_path):
    config = loaded(tmp_path, {"server": {**OPEN, "insecure": True}})
    assert len(config.settings.exposed) == 3
    assert set(config.settings.exposed) <= set(config.notes)


def test_insecure_on_loopback_is_nothing_to_tell(tmp_path):
    assert loaded(tmp_path, {"server": {"insecure": True}}).settings.exposed == ()


def test_a_key_in_plaintext_beyond_this_host_is_told(tmp_path):
    changes = {"endpoints/0/address": "10.0.0.9:8001", "backends": {"credentials": {"env": "K"}}}
    notes = loaded(tmp_path, changes).notes
    assert [note for note in notes if "plaintext" in note] == [
        "west-0: its key travels in plaintext to 10.0.0.9:8001; whoever is on the way can read it: "
        "give tls"
    ]


@pytest.mark.parametrize(("http", "words"), [(None, "nobody"), ("127.0.0.1:0", "over HTTP")])
def test_an_optional_certificate_is_no_matter_of_grpc(tmp_path, http, words):
    server = {"tls": {**MUTUAL, "client_auth": "optional"}, "http": http}
    server = {key: value for key, value in server.items() if value is not None}
    (note,) = [one for one in loaded(tmp_path, {"server": server}).notes if "client_auth" in one]
    assert words in note


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "tls": st.sampled_from([PAIR, MUTUAL]),
            "admin_tls": st.sampled_from([PAIR, MUTUAL]),
            "admin_token_file": st.just("t"),
            "insecure": st.booleans(),
            "http": st.sampled_from(["0.0.0.0:1", "127.0.0.1:1"]),
            "listen": st.sampled_from(["h:1", "127.0.0.1:2"]),
            "admin": st.sampled_from(["[::]:3", "localhost:3"]),
        },
    ),
    st.booleans(),
)
def test_what_is_refused_is_what_is_exposed_and_not_meant(server, authenticates):
    schema = ServerSchema(**server)
    refused = {key for key, _ in check_exposure(schema, authenticates)}
    told = {one.key for one in exposures(schema, authenticates)}
    assert refused == (set() if schema.insecure else told)
    beyond = {
        f"server.{key}"
        for key in ("listen", "http", "admin")
        if (address := getattr(schema, key)) and not is_loopback(address)
    }
    assert told <= beyond

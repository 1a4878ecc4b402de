"""TLS and credentials in the file: what may stand there, and what it comes to."""

from pathlib import Path

import pytest

from router.config.settings import (
    ClientAuth,
    EndpointAccess,
    EndpointCredentials,
    EndpointTls,
    ListenerTls,
    PemFiles,
    SecretSpec,
)
from tests.config.samples import loaded, problems

HERE, THERE = "127.0.0.1:9001", "127.0.0.1:9002"
PAIR = {"cert_file": "a.crt", "key_file": "a.key"}


def access(folder, **changes):
    named = {key.replace("__", "/"): value for key, value in changes.items()}
    return loaded(folder, named).settings.access


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, ClientAuth.NONE),
        ({"client_auth": "none"}, ClientAuth.NONE),
        ({"client_ca_file": "ca.pem"}, ClientAuth.REQUIRED),
        ({"client_ca_file": "ca.pem", "client_auth": "optional"}, ClientAuth.OPTIONAL),
    ],
)
def test_a_listener(tmp_path, more, wanted):
    server = loaded(tmp_path, {"server": {"tls": {**PAIR, **more}}}).settings.server
    ca = tmp_path / "ca.pem" if "client_ca_file" in more else None
    files = PemFiles(tmp_path / "a.crt", tmp_path / "a.key", ca)
    assert server.tls == ListenerTls(files, wanted)
    assert server.admin_tls is None


@pytest.mark.parametrize(
    ("tls", "key", "text"),
    [
        ({"cert_file": "a"}, "server.tls.key_file", "required"),
        ({**PAIR, "client_auth": "required"}, "server.tls", "needs client_ca_file"),
        (
            {**PAIR, "client_auth": "none", "client_ca_file": "x"},
            "server.tls",
            "drop one",
        ),
        ({**PAIR, "client_auth": "requird"}, "server.tls.client_auth", "did you mean 'required'"),
        ({**PAIR, "ca_file": "x"}, "server.tls.ca_file", "unknown key"),
    ],
)
def test_a_listener_that_is_wrong(tmp_path, tls, key, text):
    assert text in problems(tmp_path, {"server": {"tls": tls}})[key]


@pytest.mark.parametrize(
    ("server", "wanted"),
    [
        ({"admin_token_env": "T"}, SecretSpec("T")),
        ({"admin_token_file": "t"}, SecretSpec(file=Path("t"))),
        ({}, None),
    ],
)
def test_the_token_of_the_admin_port(tmp_path, server, wanted):
    found = loaded(tmp_path, {"server": server}).settings.server.admin_token
    if wanted is not None and wanted.file is not None:
        wanted = SecretSpec(file=tmp_path / wanted.file)
    assert found == wanted


def test_one_token_is_enough(tmp_path):
    both = {"admin_token_env": "T", "admin_token_file": "t"}
    assert "not both" in problems(tmp_path, {"server": both})["server"]


# Endpoints


def test_nothing_said_is_plaintext_without_a_key(tmp_path):
    assert access(tmp_path) == {}


def test_defaults_are_for_all_and_an_endpoint_has_its_own_as_a_whole(tmp_path):
    found = access(
        tmp_path,
        backends={"tls": {"ca_file": "ca.pem"}, "credentials": {"env": "KEY"}},
        endpoints__1__tls={"server_name": "llm.internal"},
        endpoints__1__credentials={"header": "x-api-key", "file": "k"},
    )
    assert found == {
        HERE: EndpointAccess(
            EndpointTls("backends.tls", PemFiles(ca=tmp_path / "ca.pem")),
            EndpointCredentials(
                "backends.credentials", "authorization", "Bearer", SecretSpec("KEY")
            ),
        ),
        THERE: EndpointAccess(
            EndpointTls("endpoints[1].tls", PemFiles(), "llm.internal"),
            EndpointCredentials(
                "endpoints[1].credentials", "x-api-key", "", SecretSpec(file=tmp_path / "k")
            ),
        ),
    }


def test_an_endpoint_may_say_no(tmp_path):
    found = access(
        tmp_path,
        backends={"tls": {}, "credentials": {"env": "KEY"}},
        endpoints__1__address=f"grpc://{THERE}",
        endpoints__1__credentials={},
    )
    assert set(found) == {HERE}


def test_an_address_may_say_it(tmp_path):
    config = loaded(tmp_path, {"endpoints/0/address": f"grpcs://{HERE}"})
    assert config.settings.access == {HERE: EndpointAccess(EndpointTls("backends.tls"))}
    assert config.fleet.endpoints[0].address == HERE


def test_a_url_has_its_usual_port(tmp_path):
    changes = {"server": {"http": "127.0.0.1:0"}, "endpoints/0/protocol": "openai",
               "endpoints/1/models": [{"name": "other", "profile": "classifier@cpu"}],
               "endpoints/0/address": "https://llm.example.org/"}  # fmt: skip
    config = loaded(tmp_path, changes)
    assert config.fleet.endpoints[0].address == "llm.example.org:443"
    assert set(config.settings.access) == {"llm.example.org:443"}


@pytest.mark.parametrize("scheme", ["basic", "ApiKey", ""])
def test_the_word_before_a_key_may_be_another(tmp_path, scheme):
    found = access(tmp_path, backends={"credentials": {"env": "K", "scheme": scheme}})
    assert found[HERE].credentials.scheme == scheme


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"endpoints/0/address": f"https://{HERE}"}, "endpoints[0].address", "grpcs://"),
        ({"endpoints/0/address": f"tls://{HERE}"}, "endpoints[0].address", "one of http://"),
        ({"endpoints/0/address": f"grpcs://{HERE}/x"}, "endpoints[0].address", "without a path"),
        ({"endpoints/0/address": f"grpcs://u:p@{HERE}"}, "endpoints[0].address", "without a path"),
        ({"endpoints/0/address": "grpcs://host"}, "endpoints[0].address", "has no port"),
        (
            {"endpoints/0/address": f"grpc://{HERE}", "endpoints/0/tls": {}},
            "endpoints[0].tls",
            "the address says grpc://",
        ),
        ({"endpoints/1/address": f"grpcs://{HERE}"}, "endpoints[1].address", "already used"),
        ({"endpoints/0/tls": {"cert_file": "a"}}, "endpoints[0].tls", "together"),
        ({"endpoints/0/tls": {"server_name": "a:1"}}, "endpoints[0].tls.server_name", "port"),
        ({"backends": {"credentials": {"header": "x-a"}}}, "backends.credentials", "env or file"),
        (
            {"backends": {"credentials": {"env": "A", "file": "b"}}},
            "backends.credentials",
            "not both",
        ),
    ],
)
def test_an_endpoint_that_is_wrong(tmp_path, changes, key, text):
    assert text in problems(tmp_path, changes)[key]


@pytest.mark.parametrize(
    "header", ["Authorization", "x carbon", "host", "content-type", "grpc-x", "x-carbon-a", "a-bin"]
)
def test_a_header_that_carries_no_key(tmp_path, header):
    changes = {"backends": {"credentials": {"header": header, "env": "K"}}}
    assert "backends.credentials.header" in problems(tmp_path, changes)


def test_a_key_where_a_name_belongs_is_not_repeated(tmp_path):
    key = "sk-Abc9f27ab51c0de"
    for where in ("header", "scheme", "env"):
        changes = {"backends": {"credentials": {"env": "K", where: f"{key} "}}}
        assert key not in str(problems(tmp_path, changes))

"""What our ends of TLS agree to, by handshakes in memory."""

import ssl

import pytest

from router.config.settings import ClientAuth
from router.trust.contexts import ServerTls, client_context, host_roots, server_context
from router.trust.peer import read_peer
from tests.fakes.secure import (
    Source,
    authority,
    client_certificate,
    material,
    server_certificate,
)
from tests.fakes.secure import client_context as stranger


def shaken(server, client, name="localhost"):
    """Both ends after a handshake without a network; raises as it fails."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = server.wrap_bio(to_server, to_client, server_side=True)
    there = client.wrap_bio(to_client, to_server, server_hostname=name)
    done = set()
    for _ in range(10):
        for end in (there, here):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
        if len(done) == 2:
            return here, there
    raise AssertionError("no end of it")


def server(client_auth=ClientAuth.NONE, issued=None):
    return server_context(
        material(issued or server_certificate(), authority("clients").root), client_auth
    )


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_with_forward_secrecy(version, kind):
    offered = stranger(maximum_version=version)
    here, _ = shaken(server(issued=server_certificate(kind=kind)), offered)
    assert here.version() == version.name.replace("_", ".")
    assert here.cipher()[0].startswith(("TLS_", "ECDHE-"))
    assert here.compression() is None


def test_an_older_version_is_refused():
    offered = stranger()
    offered.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        offered.minimum_version = ssl.TLSVersion.TLSv1
        offered.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        shaken(server(), offered)


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "DHE"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(cipher):
    offered = stranger(maximum_version=ssl.TLSVersion.TLSv1_2)
    offered.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        shaken(server(issued=server_certificate(kind="rsa")), offered)


def test_http_is_what_is_spoken():
    offered = stranger()
    offered.set_alpn_protocols(["h2", "http/1.1"])
    here, _ = shaken(server(), offered)
    assert here.selected_alpn_protocol() == "http/1.1"


def test_a_required_certificate_is_required_and_names_its_client():
    mine = client_certificate("clients")
    here, _ = shaken(server(ClientAuth.REQUIRED), stranger(shows=mine))
    assert read_peer(here.getpeercert(binary_form=True)).spiffe_id == "spiffe://example.org/batch"
    for shows in (None, client_certificate("others")):
        with pytest.raises(ssl.SSLError):
            shaken(server(ClientAuth.REQUIRED), stranger(shows=shows))


def test_an_optional_one_may_be_left_out_and_not_be_false():
    here, _ = shaken(server(ClientAuth.OPTIONAL), stranger())
    assert here.getpeercert(binary_form=True) is None
    with pytest.raises(ssl.SSLError):
        shaken(server(ClientAuth.OPTIONAL), stranger(shows=client_certificate("others")))


def test_nobody_is_asked_where_it_is_not_wanted():
    here, _ = shaken(server(), stranger(shows=client_certificate("others")))
    assert here.getpeercert(binary_form=True) is None


def test_a_session_with_a_certificate_is_not_resumed():
    for asked, resumed in ((ClientAuth.NONE, True), (ClientAuth.REQUIRED, False)):
        context = server(asked)
        client = stranger(
            shows=client_certificate("clients"), maximum_version=ssl.TLSVersion.TLSv1_2
        )
        _, first = shaken(context, client)
        assert first.session.has_ticket is resumed


def test_our_own_client_believes_whom_it_is_told_to():
    ours = client_context(material(roots=authority().root))
    shaken(server(), ours)
    for wrong, name in (("another", "localhost"), ("test authority", "other.example")):
        issued = server_certificate(wrong)
        with pytest.raises(ssl.SSLCertVerificationError):
            shaken(server(issued=issued), ours, name)


def test_our_own_client_shows_what_it_has():
    ours = client_context(material(client_certificate("clients"), authority().root))
    here, _ = shaken(server(ClientAuth.REQUIRED), ours)
    assert here.getpeercert()


def test_without_authorities_those_of_the_host_are_believed(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority().write(tmp_path)))
    shaken(server(), client_context(material()))
    assert host_roots() == authority().root
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing"))
    assert host_roots() is None


def test_a_new_certificate_makes_a_new_context_and_the_old_authorities_are_gone():
    source = Source(material(server_certificate(), authority("clients").root))
    tls = ServerTls(source, ClientAuth.REQUIRED)
    before = tls.context()
    assert tls.context() is before
    source.replace(material(server_certificate(kind="rsa"), authority("new clients").root))
    client = stranger(shows=client_certificate("clients"))
    shaken(before, client)
    with pytest.raises(ssl.SSLError):
        shaken(tls.context(), client)
    here, _ = shaken(tls.context(), stranger(shows=client_certificate("new clients")))
    assert here.version()

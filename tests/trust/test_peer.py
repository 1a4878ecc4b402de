"""What is read of a client's certificate."""

import hashlib

import pytest

from router.trust.peer import PeerCertificate, read_peer
from tests.fakes.authority import Authority

ME = "spiffe://example.org/ns/batch/sa/worker"


@pytest.fixture(scope="module")
def authority():
    return Authority()


def test_names_and_fingerprint_of_pem_and_der_alike(authority):
    made = authority.issue("a.example", ME, "10.0.0.7", "b.example", common_name="batch")
    read = read_peer(made.chain)
    assert read == read_peer(made.der)
    assert read == PeerCertificate(
        "CN=batch", ("a.example", "b.example"), (ME,), hashlib.sha256(made.der).hexdigest()
    )
    assert read.spiffe_id == ME


def test_a_certificate_without_names_is_nobody_in_particular(authority):
    read = read_peer(authority.issue(common_name="old").chain)
    assert (read.subject, read.dns_names, read.uri_names) == ("CN=old", (), ())
    assert read.spiffe_id == ""


@pytest.mark.parametrize("names", [(ME, "spiffe://example.org/other"), ("https://example.org/a",)])
def test_spiffe_has_exactly_one_uri(authority, names):
    assert read_peer(authority.issue(*names).chain).spiffe_id == ""


def test_what_cannot_be_printed_is_escaped_or_left_out(authority):
    read = read_peer(authority.issue("a.example", common_name="x\n\x1b[31my").chain)
    assert read.subject.isprintable()
    assert read.subject == "CN=x\\0A\\1B[31my"


@pytest.mark.parametrize(
    "junk", [b"", b"\x30\x82", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"x" * 99]
)
def test_what_is_no_certificate_proves_nobody(junk):
    assert read_peer(junk) is None

"""Whom a client certificate is of."""

import pytest

from router.config.identity import CertificateSchema
from router.identity.certificates import CertificateTable
from router.trust.peer import PeerCertificate

CHAT = PeerCertificate(
    "CN=chat,O=corp", ("chat.Corp.example",), ("spiffe://corp/ns/ai/sa/chat",), "ab" * 32
)


def name_by(certificate=CHAT, **rule):
    table = CertificateTable([CertificateSchema.model_validate({"name": "chat", **rule})])
    found = table.find(certificate)
    return found and found.name


@pytest.mark.parametrize(
    "rule",
    [
        {"uri": "spiffe://corp/ns/ai/sa/chat"},
        {"uri": "spiffe://corp/ns/*/sa/chat"},
        {"uri": "spiffe://corp/ns/ai/*"},
        {"uri": "spiffe://corp/*"},
        {"dns": "chat.corp.example"},
        {"dns": "*.CORP.example"},
        {"subject": "CN=chat,O=corp"},
        {"fingerprint": "ab" * 32},
    ],
)
def test_a_certificate_is_known_by_one_of_its_names(rule):
    assert name_by(**rule) == "chat"


@pytest.mark.parametrize(
    "rule",
    [
        {"uri": "spiffe://corp/ns/*/chat"},
        {"uri": "spiffe://corp/ns/ai/sa/chat/*"},
        {"uri": "spiffe://corp/ns/ai/sa/cha"},
        {"uri": "spiffe://cor*"},
        {"uri": "spiffe://corp/ns/ai/sa/c.at"},
        {"dns": "*.example"},
        {"dns": "corp.example"},
        {"subject": "CN=chat"},
        {"subject": "CN=chat,O=corp,C=DE"},
        {"fingerprint": "cd" * 32},
    ],
)
def test_another_certificate_is_nobodys(rule):
    assert name_by(**rule) is None


def test_two_uris_are_no_spiffe_id():
    two = ("spiffe://corp/ns/ai/sa/chat", "spiffe://evil/x")
    certificate = PeerCertificate("", (), two, "00" * 32)
    assert name_by(certificate, uri="spiffe://corp/*") is None


def test_the_first_that_fits_decides():
    listed = [
        CertificateSchema(name="one", uri="spiffe://corp/ns/ai/*", roles=["control"]),
        CertificateSchema(name="two", uri="spiffe://corp/*"),
    ]
    found = CertificateTable(listed).find(CHAT)
    assert found is not None and found.name == "one"
    assert found.credential == "certificate one"


@pytest.mark.parametrize("names", [{}, {"dns": "a", "uri": "b"}])
def test_a_rule_goes_by_one_name(names):
    with pytest.raises(ValueError, match="exactly one of"):
        CertificateSchema.model_validate({"name": "a", **names})

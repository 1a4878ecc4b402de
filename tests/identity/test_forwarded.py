"""A proxy's word on certificates counts where it brings the secret, and only there."""

from urllib.parse import quote

from router.identity.forwarded import CERTIFICATE, KEY, ForwardedCertificates, told_certificate
from tests.fakes.secure import client_certificate

FORWARDED = ForwardedCertificates("s3cret-of-this-process")
SHOWN = (CERTIFICATE, f'Hash=00;Cert="{quote(client_certificate("clients").chain)}"')


def test_it_is_read_where_the_secret_is_brought_once():
    own = FORWARDED.field
    assert own == (KEY, "s3cret-of-this-process")
    found = FORWARDED.of([own, SHOWN])
    assert found is not None and found == told_certificate([SHOWN])
    assert FORWARDED.of([own]) is None
    for strangers in ([SHOWN], [(KEY, ""), SHOWN], [(KEY, "guess"), SHOWN], [own, own, SHOWN]):
        assert FORWARDED.of(strangers) is None
    assert FORWARDED.of([(KEY, "s3crét"), SHOWN]) is None


def test_neither_travels_on():
    kept = ("x-tenant", "acme")
    assert FORWARDED.without([FORWARDED.field, kept, SHOWN]) == [kept]

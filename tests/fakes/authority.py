"""A certificate authority made as tests run. `trustme` has no URI names and no expiry of choice."""

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from router.clock import WallClock

HOUR = datetime.timedelta(hours=1)
USES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


def pem_of(key):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Issued(NamedTuple):
    """A certificate and its key, PEM; ``chain``: with those that it hangs on below the root."""

    chain: bytes
    key: bytes

    @property
    def der(self):
        read = x509.load_pem_x509_certificate(self.chain)
        return read.public_bytes(serialization.Encoding.DER)

    def write(self, folder: Path, stem: str = "server"):
        """(cert_file, key_file), each put in place as a whole."""
        folder.mkdir(exist_ok=True, parents=True)
        written = []
        for kind, content in (("crt", self.chain), ("key", self.key)):
            aside = folder / f"{stem}.{kind}.new"
            aside.write_bytes(content)
            written.append(aside.replace(folder / f"{stem}.{kind}"))
        return tuple(written)


class Authority:
    """``root``: its own certificate, PEM."""

    def __init__(self, name: str = "test authority"):
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._signed(self._name, self._key.public_key(), -HOUR, 24 * HOUR)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        made = made.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
        )
        self.root = self._sealed(made)

    def issue(
        self,
        *names: str,
        common_name: str | None = None,
        begins: datetime.timedelta = -HOUR,
        ends: datetime.timedelta = 24 * HOUR,
        kind: str = "ec",
    ) -> Issued:
        """``names``: DNS names, IP addresses and URIs. ``begins``, ``ends``: from now on."""
        key = (
            rsa.generate_private_key(65537, 2048)
            if kind == "rsa"
            else ec.generate_private_key(ec.SECP256R1())
        )
        subject = x509.Name(
            [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        )
        made = self._signed(subject, key.public_key(), begins, ends)
        if names:
            made = made.add_extension(
                x509.SubjectAlternativeName(list(map(_name, names))), critical=common_name is None
            )
        made = made.add_extension(x509.ExtendedKeyUsage(USES), critical=False)
        return Issued(self._sealed(made), pem_of(key))

    def write(self, folder: Path, stem: str = "ca") -> Path:
        """Its certificate as a file."""
        folder.mkdir(exist_ok=True, parents=True)
        aside = folder / f"{stem}.pem.new"
        aside.write_bytes(self.root)
        return aside.replace(folder / f"{stem}.pem")

    def _signed(self, subject, key, begins, ends):
        now = datetime.datetime.fromtimestamp(WallClock().now(), datetime.UTC)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name)
        made = made.public_key(key).serial_number(x509.random_serial_number())
        made = made.not_valid_before(now + begins).not_valid_after(now + ends)
        return made.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
            critical=False,
        )

    def _sealed(self, made):
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(text):
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)

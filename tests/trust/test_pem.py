"""What is taken of files of certificates and keys, and what is refused with which words."""

import datetime
import math
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from router.clock import WallClock
from router.config.settings import PemFiles
from router.errors import ConfigError
from router.trust.pem import read_pem
from tests.fakes.secure import authority, server_certificate

HOUR = datetime.timedelta(hours=1)


def now():
    return WallClock().now()


def files(folder, issued=None, ca=None):
    found = PemFiles()
    if issued is not None:
        cert, key = issued.write(folder)
        found = PemFiles(Path(cert), Path(key))
    return found if ca is None else found._replace(ca=Path(ca))


def problem(at, **named):
    with pytest.raises(ConfigError) as caught:
        read_pem("server.tls", at, now(), **named)
    ((key, text),) = caught.value.problems
    return key, text


def test_what_is_right_is_taken_whole_and_the_key_is_not_shown(tmp_path):
    issued = authority().issue("a.example", "10.0.0.7", "spiffe://example.org/gateway")
    read = read_pem("t", files(tmp_path, issued, authority().write(tmp_path)), now())
    assert (read.chain, read.key, read.roots) == (issued.chain, issued.key, authority().root)
    assert read.names == ("a.example", "10.0.0.7", "spiffe://example.org/gateway")
    assert read.not_before == pytest.approx(now() - 3600, abs=60)
    assert read.not_after == pytest.approx(now() + 86_400, abs=60)
    assert issued.key.decode()[40:80] not in repr(read)


def test_authorities_alone_never_expire(tmp_path):
    read = read_pem("t", files(tmp_path, ca=authority().write(tmp_path)), now())
    assert (read.not_after, read.chain) == (math.inf, b"")
    assert not read.is_late(now())
    assert read_pem("t", PemFiles(), now()).roots == b""


def test_a_certificate_is_late_in_the_last_tenth_of_its_life(tmp_path):
    issued = authority().issue("a", begins=-9 * HOUR, ends=1 * HOUR + HOUR / 60)
    read = read_pem("t", files(tmp_path, issued), now())
    assert not read.is_late(now())
    assert read.is_late(now() + 120)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_key_of_another_certificate_is_refused(tmp_path, kind):
    mine, other = server_certificate(kind=kind), server_certificate()
    assert problem(files(tmp_path, mine._replace(key=other.key))) == (
        "server.tls.key_file",
        f"{tmp_path}/server.key is not the key of the certificate in {tmp_path}/server.crt",
    )


def test_a_certificate_out_of_its_time_is_refused(tmp_path):
    old = authority().issue("a", begins=-2 * HOUR, ends=-HOUR)
    key, text = problem(files(tmp_path, old))
    assert key == "server.tls.cert_file"
    assert "expired at 2" in text
    early = authority().issue("a", begins=HOUR)
    assert "is this host's clock right?" in problem(files(tmp_path, early))[1]


def test_half_a_file_is_refused(tmp_path):
    issued = server_certificate()
    for part, name in (("chain", "cert_file"), ("key", "key_file")):
        whole = getattr(issued, part)
        for half in (b"", whole[: len(whole) // 2], b"junk"):
            key, text = problem(files(tmp_path, issued._replace(**{part: half})))
            assert key == f"server.tls.{name}"
            assert str(tmp_path) in text
            assert "MII" not in text


def test_a_locked_key_is_refused(tmp_path):
    issued = server_certificate()
    locked = serialization.load_pem_private_key(issued.key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    assert "passphrase" in problem(files(tmp_path, issued._replace(key=locked)))[1]


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path):
    missing = PemFiles(tmp_path / "no.crt", tmp_path / "no.key")
    assert problem(missing)[1] == f"{tmp_path}/no.crt cannot be read: No such file or directory"
    with (tmp_path / "big.pem").open("wb") as big:
        big.truncate(5 * 2**20)
    assert "larger than 4 MiB" in problem(PemFiles(ca=tmp_path / "big.pem"))[1]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAA\n"])
def test_authorities_that_are_none_are_refused_by_the_name_they_have(tmp_path, content):
    (tmp_path / "ca.pem").write_bytes(content)
    at = PemFiles(ca=tmp_path / "ca.pem")
    key, text = problem(at, ca_key="client_ca_file")
    assert key == "server.tls.client_ca_file"
    assert "holds no PEM certificates" in text

import base64
import json

from router.config.settings import ListenerTls, PemFiles
from router.planes.envoy.tls import stem_of
from router.planes.envoy.tls_files import TlsFiles
from router.trust.access import AccessTable
from tests.fakes.secure import authority, material, server_certificate, server_tls

FILES = PemFiles("a.crt", "a.key", "ca.pem")


class _Configured:
    def __init__(self, tls):
        self.settings = self.server = self
        self.tls = tls
        self.access = {}


def told(folder, what):
    """The first of what a file holds."""
    ((said),) = json.loads((folder / f"{stem_of(FILES)}-{what}.json").read_text())["resources"]
    return said


def test_what_is_in_force_is_there_and_what_replaces_it_at_its_next_look(tmp_path):
    first, second = server_certificate(), server_certificate()
    server = server_tls(first, authority("clients"))
    files = TlsFiles(tmp_path / "tls", _Configured(ListenerTls(FILES)), server, AccessTable())
    assert files.is_behind
    files.write()
    assert not files.is_behind
    for issued in (first, second):
        if issued is second:
            server.source.replace(material(second, authority("others").root))
            assert files.is_behind
            files.write()
        shown = told(tmp_path / "tls", "shown")["tls_certificate"]
        for name, content in (("certificate_chain", issued.chain), ("private_key", issued.key)):
            assert base64.b64decode(shown[name]["inline_bytes"]) == content
    believed = told(tmp_path / "tls", "believed")["validation_context"]["trusted_ca"]
    assert base64.b64decode(believed["inline_bytes"]) == authority("others").root
    modes = {one.stat().st_mode & 0o777 for one in (tmp_path / "tls").iterdir()}
    assert modes == {0o600}


def test_without_tls_there_is_nothing(tmp_path):
    files = TlsFiles(tmp_path / "tls", _Configured(None), None, AccessTable())
    assert not files.is_behind
    files.write()
    assert not (tmp_path / "tls").exists()

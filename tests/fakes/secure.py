"""TLS on loopback as tests want it: servers' and clients' ends, whose certificates change."""

import math
import ssl
import tempfile
from functools import cache
from pathlib import Path

from router.config.settings import ClientAuth
from router.trust.access import AccessTable, EndpointKey, EndpointSecurity
from router.trust.contexts import ServerTls
from router.trust.pem import PemMaterial
from router.trust.secrets import Secret
from tests.fakes.authority import Authority

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@cache
def _authority(name):
    return Authority(name)


def authority(name="test authority"):
    """One of this name a process: keys take a while to make."""
    return _authority(name)


def server_certificate(name="test authority", kind="ec"):
    """Another one each time."""
    return authority(name).issue(*LOOPBACK, kind=kind)


def client_certificate(name="test authority"):
    """Another one each time."""
    return authority(name).issue("spiffe://example.org/batch", common_name="batch")


def material(issued=None, roots=b""):
    """What was read of files, checked by nobody."""
    chain, key = (issued.chain, issued.key) if issued is not None else (b"", b"")
    return PemMaterial(chain, key, roots, (), -math.inf, math.inf, chain + roots)


class Source:
    """A `Watched` that a test replaces itself."""

    def __init__(self, value, name="test"):
        self.name = name
        self.value = value
        self.version = 1
        self.refused = ""

    def replace(self, value):
        self.value = value
        self.version += 1


def server_tls(issued=None, clients=None):
    """Of a server; ``clients``: the authority that signs theirs, None where they are not asked."""
    roots = clients.root if clients is not None else b""
    asked = ClientAuth.REQUIRED if clients is not None else ClientAuth.NONE
    return ServerTls(Source(material(issued or server_certificate(), roots)), asked)


class _Alike(dict):
    """The same value of every key."""

    def __init__(self, value):
        super().__init__()
        self._value = value

    def get(self, key, default=None):
        return self._value

    def __contains__(self, key):
        return True


class ReachedAlike(AccessTable):
    """Every endpoint over the same TLS, with the same key. ``source``, ``keys``: to be replaced."""

    def __init__(self, believes=None, shows=None, server_name="", key="", header=""):
        super().__init__()
        roots = (believes or authority()).root
        self.source = Source(material(shows, roots))
        self._security = _Alike(EndpointSecurity(self.source, server_name))
        if key:
            self.keys = Source(Secret(key))
            named = (header, "") if header else ("authorization", "Bearer")
            self._keys = _Alike(EndpointKey(*named, self.keys))


def client_context(believes=None, shows=None, **changes):
    """An `ssl` context of a client that is not ours."""
    context = ssl.create_default_context(cadata=(believes or authority()).root.decode())
    for name, value in changes.items():
        setattr(context, name, value)
    if shows is not None:
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(*shows.write(Path(folder)))
    return context

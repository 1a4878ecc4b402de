"""One build of the module's C for all tests here."""

from tests.planes.envoy.host import host

__all__ = ["host"]

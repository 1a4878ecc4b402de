"""Endpoints by DNS: the SRV records of a name, asked for again when they expire.

Priorities and weights are not looked at: which server is best is what a policy is for. No records
at all are a failure, which takes nothing away; a record whose target is `.` says that nobody is
there (RFC 2782).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdtypes.IN.SRV

from router.config.discovery_settings import DnsPlace
from router.config.fields import split_address
from router.contract import FindingsListener, Rng
from router.model import FoundEndpoint

ASK_S: Final = 5.0
PAUSE_S: Final = (1.0, 30.0)
_DNS_PORT: Final = 53


class DnsFinder:
    """A `contract.EndpointFinder` of one name's SRV records."""

    def __init__(self, place: DnsPlace, rng: Rng) -> None:
        self._place = place
        self._rng = rng

    async def run(self, listener: FindingsListener) -> None:
        """See `contract.EndpointFinder`."""
        resolver: dns.asyncresolver.Resolver | None = None
        pause_s = PAUSE_S[0]
        while True:
            try:
                if resolver is None:
                    resolver = await asyncio.to_thread(_resolver, self._place.nameservers)
                found, ttl_s = await self._ask(resolver)
            except (dns.exception.DNSException, OSError) as error:
                listener.failed(f"{self._place.record}: {_words(error)}")
                # The host's nameservers may be others by now, or there at last.
                resolver = None
                rest_s = pause_s * (0.5 + self._rng.random())
                pause_s = min(2.0 * pause_s, PAUSE_S[1])
            else:
                listener.found(found)
                pause_s = PAUSE_S[0]
                # Just after it expired, and not everybody at once.
                rest_s = max(ttl_s, self._place.least_s) * (1.0 + 0.1 * self._rng.random())
                rest_s = min(rest_s, self._place.most_s)
            await asyncio.sleep(rest_s)

    async def _ask(
        self, resolver: dns.asyncresolver.Resolver
    ) -> tuple[Sequence[FoundEndpoint], float]:
        """Who is there, and for how many seconds that is true."""
        answer = await resolver.resolve(self._place.record, "SRV", lifetime=ASK_S, search=False)
        found = {}
        for record in answer:
            if not isinstance(record, dns.rdtypes.IN.SRV.SRV) or record.target == dns.name.root:
                continue
            address = f"{record.target.to_text(omit_final_dot=True)}:{record.port}".lower()
            found[address] = FoundEndpoint(address, address)
        ttl_s = float(answer.rrset.ttl) if answer.rrset is not None else 0.0
        return list(found.values()), ttl_s


def _resolver(nameservers: Sequence[str]) -> dns.asyncresolver.Resolver:
    """Those of the host where none are given. Raises DNSException where it has none."""
    if not nameservers:
        return dns.asyncresolver.Resolver()
    made = dns.asyncresolver.Resolver(configure=False)
    servers = []
    for text in nameservers:
        host, port = split_address(text)
        servers.append(dns.nameserver.Do53Nameserver(host, port or _DNS_PORT))
    made.nameservers = servers
    return made


def _words(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:300]

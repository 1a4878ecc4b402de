"""A DNS server over UDP that knows the SRV records that a test gives it."""

import asyncio

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class FakeDns(asyncio.DatagramProtocol):
    """``records``: as in a zone file, such as `0 0 8000 host.example.`; ``rcode``: of each answer;
    ``silent``: whether it answers nothing; ``asked``: how often it was asked."""

    def __init__(self, name, ttl_s=0):
        self.name = name
        self.ttl_s = ttl_s
        self.records = []
        self.rcode = dns.rcode.NOERROR
        self.silent = False
        self.asked = 0

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        self.address = "127.0.0.1:{}".format(self.transport.get_extra_info("sockname")[1])
        return self

    async def __aexit__(self, *_):
        self.transport.close()

    def datagram_received(self, data, peer):
        self.asked += 1
        if self.silent:
            return
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        answer.set_rcode(self.rcode)
        if self.records and self.rcode == dns.rcode.NOERROR:
            rows = dns.rrset.from_text(self.name, self.ttl_s, "IN", "SRV", *self.records)
            answer.answer.append(rows)
        self.transport.sendto(answer.to_wire(), peer)

from router.planes.envoy.names import HostNames


class Resolver:
    def __init__(self, **known):
        self.known = known

    async def __call__(self, host):
        found = self.known.get(host.replace(".", "_"))
        if found is None:
            raise OSError("no such name")
        return found


async def test_a_name_is_one_of_its_addresses_for_as_long_as_that_is_among_them():
    resolver = Resolver(llm_svc=["10.0.0.1", "10.0.0.2"])
    names = HostNames(resolver)
    assert names.address("llm.svc:80") == ""
    assert await names.look(["llm.svc:80", "10.9.9.9:1"])
    assert names.address("llm.svc:80") == "10.0.0.1:80"
    resolver.known["llm_svc"] = ["10.0.0.2", "10.0.0.1"]
    assert not await names.look(["llm.svc:80"])
    resolver.known["llm_svc"] = ["10.0.0.2"]
    assert await names.look(["llm.svc:80"])
    assert names.address("llm.svc:80") == "10.0.0.2:80"


async def test_one_that_is_not_resolved_any_more_stays_where_it_was():
    resolver = Resolver(llm=["fd00::1"])
    names = HostNames(resolver)
    await names.look(["llm:80"])
    resolver.known.clear()
    assert not await names.look(["llm:80"])
    assert names.address("llm:80") == "[fd00::1]:80"
    # Nobody asks for it any more.
    assert not await names.look([])
    assert names.address("llm:80") == ""


async def test_addresses_are_themselves():
    names = HostNames(Resolver())
    assert not await names.look(["10.0.0.1:80"])
    assert names.address("localhost:80") == "127.0.0.1:80"
    assert names.address("[::0001]:80") == "[::1]:80"

"""Envoy's plane over mTLS on both sides, and certificates that change beneath it."""

import aiohttp
import grpc
import pytest

from router.config.settings import (
    ClientAuth,
    EndpointAccess,
    EndpointCredentials,
    EndpointTls,
    ListenerTls,
    PemFiles,
    SecretSpec,
)
from router.planes.envoy import tls
from router.trust.peer import read_peer
from tests.e2e import harness as h
from tests.e2e.test_tls import grpc_client, http_client, shown
from tests.fakes.secure import (
    LOOPBACK,
    authority,
    client_certificate,
    client_context,
    server_certificate,
)
from tests.long import LONG
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig


class Place:
    """A gateway and its servers, each asking the other for certificates."""

    def __init__(self, folder):
        self.folder = folder
        server_certificate().write(folder, "gateway")
        client_certificate("fleet clients").write(folder, "ours")
        authority("fleet").issue(*LOOPBACK).write(folder, "model")
        for name in ("clients", "fleet", "fleet clients"):
            authority(name).write(folder, name)
        self.config = rig.config()
        for one in self.config["endpoints"]:
            scheme = "grpcs" if "protocol" not in one else "https"
            one["address"] = f"{scheme}://{one['address']}"
        pem = {"cert_file": "gateway.crt", "key_file": "gateway.key"}
        self.config["server"]["tls"] = {**pem, "client_ca_file": "clients.pem"}
        ours = {"ca_file": "fleet.pem", "cert_file": "ours.crt", "key_file": "ours.key"}
        self.config["backends"] = {"tls": ours}
        self.servers = (
            "--tls-cert", str(folder / "model.crt"), "--tls-key", str(folder / "model.key"),
            "--tls-client-ca", str(folder / "fleet clients.pem"),
        )  # fmt: skip
        self.http = self.config["server"]["http"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = Place(tmp_path_factory.mktemp("envoy-tls"))
    with rig.running(made.folder, made.config, servers=made.servers) as (gateway, _):
        made.gateway = gateway
        yield made


async def chat(place, session):
    body = {"model": rig.CHAT, "messages": [{"role": "user", "content": "hi"}]}
    async with session.post(f"https://{place.http}/v1/chat/completions", json=body) as reply:
        return reply.status


async def answered(place):
    """Of one new connection over each protocol."""
    async with grpc_client(place.gateway) as client, http_client() as session:
        await client.receipt()
        assert await chat(place, session) == 200


@hosts.missing
async def test_both_protocols_over_mtls_and_nothing_of_it_is_told(place):
    await answered(place)
    gateway = place.gateway
    seen = [gateway.log.read_text()]
    seen += [await admin(gateway, one) for one in ("config_dump", "certs")]
    assert all("PRIVATE" not in one and "UFJJVkFUR" not in one for one in seen)
    folder = rig.run_folder(gateway.path)
    assert folder.stat().st_mode & 0o777 == 0o700
    files = list((folder / "tls").iterdir())
    assert len(files) == 4 and all(one.stat().st_mode & 0o777 == 0o600 for one in files)


async def admin(gateway, path):
    """A page of Envoy's own."""
    connector = aiohttp.UnixConnector(str(rig.run_folder(gateway.path) / "admin.sock"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://envoy/{path}") as reply,
    ):
        return await reply.text()


@hosts.missing
async def test_who_is_not_known_gets_nowhere(place):
    for shows in (None, client_certificate("strangers")):
        credentials = grpc.ssl_channel_credentials(
            authority().root, shows.key if shows else None, shows.chain if shows else None
        )
        target = f"localhost:{h.port_of(place.gateway.address)}"
        async with grpc.aio.secure_channel(target, credentials, options=h.QUICK) as channel:
            assert (await h.Client(channel).refusal())[0] == "UNAVAILABLE"
        connector = aiohttp.TCPConnector(ssl=client_context(shows=shows))
        async with aiohttp.ClientSession(connector=connector) as session:
            with pytest.raises(aiohttp.ClientError):
                await chat(place, session)
    async with place.gateway.client() as client:
        assert (await client.refusal())[0] == "UNAVAILABLE"


@LONG
@hosts.missing
async def test_certificates_change_and_what_is_wrong_leaves_the_one_before(place):
    gateway, pid = place.gateway, place.gateway.envoy_pid
    first = await shown(gateway.address)
    new = server_certificate(kind="rsa")
    (place.folder / "gateway.crt").write_bytes(new.chain[:200])

    async def refused():
        reasons = (await gateway.readiness())[1]["reasons"]
        return [one for one in reasons if one["reason"] == "trust_refused"]

    await h.until(refused, "the refusal being told")
    assert await shown(gateway.address) == first
    new.write(place.folder, "gateway")
    for address in (gateway.address, place.http):

        async def is_new(address=address):
            return await shown(address) == read_peer(new.der)

        await h.until(is_new, f"the new certificate at {address}")
    client_certificate("fleet clients").write(place.folder, "ours")

    async def applied():
        return await gateway.total("trust_reloads_total", outcome="applied") >= 2

    await h.until(applied, "the new certificate towards endpoints")
    await answered(place)
    # An authority that is taken out counts no more.
    authority("others").write(place.folder, "clients")

    async def is_out():
        async with grpc_client(gateway) as client:
            try:
                await client.receipt()
            except grpc.aio.AioRpcError:
                return True
        return False

    await h.until(is_out, "the authority being out")
    authority("clients").write(place.folder, "clients")

    async def is_back():
        return not await is_out()

    await h.until(is_back, "the authority being back")
    await answered(place)
    assert gateway.envoy_pid == pid


def test_a_listener_asks_as_it_is_told_to(tmp_path):
    files = PemFiles(tmp_path / "a.crt", tmp_path / "a.key", tmp_path / "ca.pem")
    assert tls.listener_socket(None, tmp_path) == {}
    for auth in ClientAuth:
        socket = tls.listener_socket(ListenerTls(files, auth), tmp_path)["transport_socket"]
        context = socket["typed_config"]
        asks = "validation_context_sds_secret_config" in context["common_tls_context"]
        assert asks is (auth is not ClientAuth.NONE)
        assert context.get("require_client_certificate", False) is (auth is ClientAuth.REQUIRED)


class _Configured:
    def __init__(self, access, endpoints=()):
        self.settings = self.fleet = self
        self.access = access
        self.endpoints = endpoints
        self.discovery = ()


class _Endpoint:
    def __init__(self, address, protocol="oip"):
        self.address = address
        self.protocol = protocol


def test_each_endpoint_is_reached_by_its_own_name_and_files(tmp_path):
    one, other = PemFiles(ca=tmp_path / "a.pem"), PemFiles(ca=tmp_path / "b.pem")
    endpoints = [_Endpoint(f"10.0.0.{n}:1") for n in range(1, 5)]
    access = {
        "10.0.0.1:1": EndpointAccess(EndpointTls("backends", one)),
        "10.0.0.2:1": EndpointAccess(EndpointTls("backends", one, "models.internal")),
        "10.0.0.3:1": EndpointAccess(EndpointTls("endpoints[2]", other, "models.internal")),
    }
    config = _Configured(access, endpoints)
    ways = tls.endpoint_sockets(config, endpoints, tmp_path)["transport_socket_matches"]
    contexts = [way["transport_socket"]["typed_config"] for way in ways]
    assert [context.get("sni") for context in contexts] == [
        None, "models.internal", "models.internal",
    ]  # fmt: skip
    reaches = tls.Reaches(config, lambda: config)
    named = [reaches.of(endpoint).way for endpoint in endpoints]
    assert named == [*(way["match"]["way"] for way in ways), ""] and len(set(named)) == 4
    assert [tls.way_metadata(way) == {} for way in named] == [False, False, False, True]
    assert tls.endpoint_sockets(_Configured({}), endpoints, tmp_path) == {}


def reached(begun, in_force, endpoint):
    return tls.Reaches(begun, lambda: in_force).of(endpoint)


def test_what_envoy_was_not_told_of_at_its_start_it_does_not_reach(tmp_path):
    files, here = PemFiles(ca=tmp_path / "a.pem"), _Endpoint("10.0.0.1:1")
    secured = EndpointAccess(EndpointTls("backends", files))
    keyed = [
        EndpointAccess(None, EndpointCredentials(at, "x-api-key", "", SecretSpec(env="KEY")))
        for at in ("endpoints[0]", "endpoints[1]")
    ]
    plain = _Configured({}, [here])
    for access in (secured, keyed[0]):
        configured = _Configured({here.address: access}, [here])
        assert reached(plain, configured, here) is None
        assert reached(configured, configured, here) is not None
        assert reached(configured, plain, here) == ("", None)
    # A key is the same wherever the file names it.
    reaches = [
        reached(one, one, here)
        for one in (_Configured({here.address: access}, [here]) for access in keyed)
    ]
    assert reaches[0] == reaches[1]

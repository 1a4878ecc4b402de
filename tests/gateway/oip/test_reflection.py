"""Reflection v1 and v1alpha with stock messages, as grpcurl asks."""

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as rpb

from tests.gateway.support import Script, running, soon

VERSIONS = ["v1", "v1alpha"]


def info(gateway, version):
    return gateway.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=rpb.ServerReflectionRequest.SerializeToString,
        response_deserializer=rpb.ServerReflectionResponse.FromString,
    )


async def ask(gateway, version, **question):
    call = info(gateway, version)(iter([rpb.ServerReflectionRequest(**question)]))
    return await soon(call.read())


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_listed_service_is_described(version):
    async with running(Script()) as gateway:
        answer = await ask(gateway, version, list_services="")
        services = [service.name for service in answer.list_services_response.service]
        assert set(services) == {
            "inference.GRPCInferenceService",
            "carbonrouter.v1.CarbonRouter",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        for service in services:
            answer = await ask(gateway, version, file_containing_symbol=service)
            files = answer.file_descriptor_response.file_descriptor_proto
            described = [FileDescriptorProto.FromString(file) for file in files]
            names = [f"{f.package}.{s.name}" for f in described for s in f.service]
            assert service in names


@pytest.mark.parametrize("version", VERSIONS)
async def test_unknown_symbols_are_not_found(version):
    async with running(Script()) as gateway:
        answer = await ask(gateway, version, file_containing_symbol="no.Such")
    assert answer.error_response.error_code == 5


async def test_an_open_reflection_stream_does_not_delay_draining():
    async with running(Script()) as gateway:
        call = info(gateway, "v1")()
        await call.write(rpb.ServerReflectionRequest(list_services=""))
        await soon(call.read())
        await soon(gateway.gateway.drain(3600.0))

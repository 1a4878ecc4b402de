"""Server reflection, v1 and v1alpha, so that grpcurl and its like need no .proto files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from router._pb import inference_pb2, router_pb2
from router.gateway.oip.aborting import refuse
from router.gateway.oip.calls import Desk, decode
from router.gateway.oip.context import Context
from router.gateway.oip.draining import Watchers
from router.gateway.oip.intake import SMALL_BYTES, IncomingCall
from router.identity.principal import Role

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"


class ReflectionService:
    """Describes ``services`` out of a pool of its own: ours plus health and reflection."""

    def __init__(self, services: tuple[str, ...], watchers: Watchers, desk: Desk) -> None:
        self._watchers = watchers
        self._desk = desk
        servicer = reflection.aio.ReflectionServicer
        self._answers = servicer((*services, V1, V1ALPHA), _pool())

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """The same service under both names: v1 is v1alpha renamed, equal on the wire."""
        method: Any = grpc.stream_stream_rpc_method_handler(self._info)
        return tuple(
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
            for name in (V1, V1ALPHA)
        )

    async def _info(self, _: object, context: Context) -> None:
        call: IncomingCall | None = None
        try:
            call = self._desk.intake.enter(
                context, context.invocation_metadata(), Role.CONTROL, SMALL_BYTES, metered=False
            )
            async for answer in self._answers.ServerReflectionInfo(self._asked(call), context):
                await context.write(answer.SerializeToString())
        except grpc.aio.BaseError:
            raise
        except Exception as error:
            await refuse(context, self._desk.failures, "ServerReflectionInfo", None, error)
        finally:
            if call is not None:
                call.leave()

    async def _asked(
        self, call: IncomingCall
    ) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        while (payload := await self._watchers.read(call)) is not None:
            call.release(len(payload))
            yield decode(reflection_pb2.ServerReflectionRequest, payload)


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for module in (inference_pb2, router_pb2, health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(_reflection_v1().SerializeToString())
    return pool


def _reflection_v1() -> FileDescriptorProto:
    """The description of v1, of which the installed package has only the alpha."""
    file = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = "grpc.reflection.v1"
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
        method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    return file

"""gRPC's standard services, health and reflection, as far as gRPC's own packages lack them."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

_HEALTH: Any = health_pb2  # its stubs lack List
_V1 = "grpc.reflection.v1.ServerReflection"


class Health(health.aio.HealthServicer):
    """With List, which gRPC's own leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self._statuses: dict[str, int] = {}

    async def set(self, service: str, status: Any) -> None:
        self._statuses[service] = status
        await super().set(service, status)

    async def List(self, request: Any, context: Any) -> Any:
        statuses = {name: health_pb2.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        return _HEALTH.HealthListResponse(statuses=statuses)


def add_reflection(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Of these services, by v1 and by v1alpha, which older clients ask."""
    v1 = reflection_v1()
    servicer: Any = reflection.aio.ReflectionServicer((*services, reflection.SERVICE_NAME, v1.full_name))
    v1alpha: Any = reflection_pb2_grpc  # without types
    v1alpha.add_ServerReflectionServicer_to_server(servicer, server)

    async def info(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async def older() -> AsyncIterator[Any]:
            async for one in requests:
                yield reflection_pb2.ServerReflectionRequest.FromString(one.SerializeToString())

        async for answer in servicer.ServerReflectionInfo(older(), context):
            yield answer

    handler: Any = grpc.stream_stream_rpc_method_handler(
        info, response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(v1.full_name, {v1.methods[0].name: handler}),)
    )


def reflection_v1() -> ServiceDescriptor:
    """Its messages are those of v1alpha under another name."""
    pool = descriptor_pool.Default()
    try:
        return pool.FindServiceByName(_V1)
    except KeyError:
        file = FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        v1 = json_format.Parse(json_format.MessageToJson(file).replace("v1alpha", "v1"), FileDescriptorProto())
        v1.name = "grpc/reflection/v1/reflection.proto"
        pool.AddSerializedFile(v1.SerializeToString())
        return pool.FindServiceByName(_V1)

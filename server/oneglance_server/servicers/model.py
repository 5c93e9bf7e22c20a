"""oneglance.v1.ModelService."""

from typing import Any

import grpc

from oneglance.v1 import model_pb2 as pb
from oneglance.v1.model_pb2_grpc import ModelServiceServicer
from oneglance_server.service.services import Door
from oneglance_server.servicers.convert import to_model

Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(ModelServiceServicer):
    def __init__(self, door: Door) -> None:
        self._door = door

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        galleries = self._door.services.galleries
        return pb.ListModelsResponse(models=[to_model(e, galleries) for e in galleries.encoders.all()])

    async def DescribeModel(self, request: pb.DescribeModelRequest, context: Context) -> pb.DescribeModelResponse:
        galleries = self._door.services.galleries
        encoder = galleries.encoders.find("model", request.model)
        return pb.DescribeModelResponse(
            model=to_model(encoder, galleries), manifest_json=encoder.manifest.model_dump_json(indent=2)
        )

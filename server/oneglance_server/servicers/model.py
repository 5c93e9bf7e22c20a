"""oneglance.v1.ModelService."""

from typing import Any

import grpc

from oneglance.v1 import model_pb2 as pb
from oneglance.v1.model_pb2_grpc import ModelServiceServicer
from oneglance_server.service.services import Door
from oneglance_server.servicers.convert import to_face_model, to_model

Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(ModelServiceServicer):
    def __init__(self, door: Door) -> None:
        self._door = door

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        services = self._door.services
        models = [to_model(e, services.galleries) for e in services.galleries.encoders.all()]
        models += [to_face_model(model) for model in services.face_models]
        return pb.ListModelsResponse(models=sorted(models, key=lambda model: model.name))

    async def DescribeModel(self, request: pb.DescribeModelRequest, context: Context) -> pb.DescribeModelResponse:
        services = self._door.services
        for model in services.face_models:
            if request.model in (model.manifest.name, model.digest):
                return pb.DescribeModelResponse(
                    model=to_face_model(model), manifest_json=model.manifest.model_dump_json(indent=2)
                )
        galleries = services.galleries
        encoder = galleries.encoders.find("model", request.model)
        return pb.DescribeModelResponse(
            model=to_model(encoder, galleries), manifest_json=encoder.manifest.model_dump_json(indent=2)
        )

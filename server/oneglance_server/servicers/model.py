"""oneglance.v1.ModelService."""

from typing import Any

import grpc

from oneglance.v1 import model_pb2 as pb
from oneglance.v1.model_pb2_grpc import ModelServiceServicer
from oneglance_server.engines.loaded_model import LoadedModel
from oneglance_server.service.services import Door
from oneglance_server.servicers.convert import to_model

Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(ModelServiceServicer):
    def __init__(self, door: Door) -> None:
        self._door = door

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        services = self._door.services
        models = [to_model(model, services.galleries) for model in services.models]
        return pb.ListModelsResponse(models=sorted(models, key=lambda model: model.name))

    async def DescribeModel(self, request: pb.DescribeModelRequest, context: Context) -> pb.DescribeModelResponse:
        services = self._door.services
        named = [model for model in services.models if request.model in (model.manifest.name, model.digest)]
        # No name means the only encoder.
        model: LoadedModel[Any] = named[0] if named else services.galleries.encoders.find("model", request.model)
        return pb.DescribeModelResponse(
            model=to_model(model, services.galleries), manifest_json=model.manifest.model_dump_json(indent=2)
        )

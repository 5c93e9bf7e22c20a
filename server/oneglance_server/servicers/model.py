"""oneglance.v1.ModelService."""

from typing import Any

import grpc

from oneglance.v1 import model_pb2 as pb
from oneglance.v1.model_pb2_grpc import ModelServiceServicer
from oneglance_server.engines.faces import Detector, Landmarks
from oneglance_server.engines.stylizer import Stylizer
from oneglance_server.service.services import Door, Services
from oneglance_server.servicers.convert import to_model, to_other_model

Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(ModelServiceServicer):
    def __init__(self, door: Door) -> None:
        self._door = door

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        services = self._door.services
        models = [to_model(e, services.galleries) for e in services.galleries.encoders.all()]
        models += [to_other_model(model) for model in _others(services)]
        return pb.ListModelsResponse(models=sorted(models, key=lambda model: model.name))

    async def DescribeModel(self, request: pb.DescribeModelRequest, context: Context) -> pb.DescribeModelResponse:
        services = self._door.services
        for model in _others(services):
            if request.model in (model.manifest.name, model.digest):
                return pb.DescribeModelResponse(
                    model=to_other_model(model), manifest_json=model.manifest.model_dump_json(indent=2)
                )
        galleries = services.galleries
        encoder = galleries.encoders.find("model", request.model)
        return pb.DescribeModelResponse(
            model=to_model(encoder, galleries), manifest_json=encoder.manifest.model_dump_json(indent=2)
        )


def _others(services: Services) -> list[Detector | Landmarks | Stylizer]:
    """The models that are no encoders."""
    return [*services.face_models, *services.stylization.stylizers.all()]

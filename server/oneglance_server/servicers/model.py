"""oneglance.v1.ModelService."""

from typing import Any

import grpc

from oneglance.v1 import common_pb2
from oneglance.v1 import model_pb2 as pb
from oneglance.v1.model_pb2_grpc import ModelServiceServicer
from oneglance_core.manifests import PairHeadPart
from oneglance_server.engines.encoder import Encoder
from oneglance_server.service.content import Tau
from oneglance_server.service.models import ModelState
from oneglance_server.service.services import ReadinessGate
from oneglance_server.servicers.answers import to_threshold
from oneglance_server.servicers.requests import call_of

Context = grpc.aio.ServicerContext[Any, Any]
_DATA_TYPES = {"uint8": common_pb2.DATA_TYPE_UINT8, "float32": common_pb2.DATA_TYPE_FLOAT32}


class ModelServicer(ModelServiceServicer):
    def __init__(self, gate: ReadinessGate) -> None:
        self._gate = gate

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=map(_to_model, self._gate.services.models.all(call_of(context))))

    async def DescribeModel(self, request: pb.DescribeModelRequest, context: Context) -> pb.DescribeModelResponse:
        found = self._gate.services.models.describe(call_of(context), request.model)
        return pb.DescribeModelResponse(
            model=_to_model(found), manifest_json=found.model.manifest.model_dump_json(indent=2)
        )


def _to_model(found: ModelState) -> pb.Model:
    model, manifest = found.model, found.model.manifest
    message = pb.Model(
        name=manifest.name,
        digest=model.digest,
        description=manifest.description,
        execution_provider=model.execution_provider,
        license=manifest.license,
        kind=manifest.kind,
    )
    if isinstance(model, Encoder):
        message.MergeFrom(_encoder_part(model, found.tau))
    return message


def _encoder_part(encoder: Encoder, tau: Tau | None) -> pb.Model:
    """What only encoders have."""
    manifest = encoder.manifest
    return pb.Model(
        input=pb.ModelInput(
            kind=manifest.input.kind,
            shape=manifest.input.shape,
            data_type=_DATA_TYPES[manifest.input.dtype],
            color=manifest.input.color or "",
            fit=manifest.input.fit or "",
            sample_rate=manifest.input.sound.sample_rate if manifest.input.sound else 0,
        ),
        dimension=encoder.dimension,
        unit_norm=manifest.output.unit_norm,
        metric=manifest.metric,
        threshold=to_threshold(tau) if tau else None,
        takes_photos=encoder.takes_photos,
        input_limits=[
            pb.InputLimit(figure=one.figure, least=one.least, most=one.most) for one in manifest.made_for.figures
        ]
        if manifest.made_for
        else (),
        pair_head=_to_head(manifest.pair_head) if manifest.pair_head else None,
    )


def _to_head(head: PairHeadPart) -> pb.PairHead:
    known = head.reliability
    return pb.PairHead(
        form=head.form,
        calibration_error=known.error if known is not None else None,
        data=known.data if known is not None else "",
    )

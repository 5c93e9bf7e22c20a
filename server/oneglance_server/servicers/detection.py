"""oneglance.v1.DetectionService."""

from typing import Any

import grpc

from oneglance.v1 import detection_pb2 as pb
from oneglance.v1.detection_pb2_grpc import DetectionServiceServicer
from oneglance_server.service.services import ReadinessGate
from oneglance_server.servicers.answers import to_photo
from oneglance_server.servicers.encoded import answer
from oneglance_server.servicers.requests import call_of, small_faces_from

_FACES_ON_THE_LOOP = 200  # about 2 ms
Context = grpc.aio.ServicerContext[Any, Any]


class DetectionServicer(DetectionServiceServicer):
    def __init__(self, gate: ReadinessGate) -> None:
        self._gate = gate

    async def DetectFaces(  # type: ignore[override]
        self, request: pb.DetectFacesRequest, context: Context
    ) -> pb.DetectFacesResponse | bytes:
        service = self._gate.services.detection
        small_faces = small_faces_from(request.small_faces, "small_faces")
        found = await service.detect(call_of(context), request.images, small_faces, upright_only=request.upright_only)
        return await answer(
            lambda: pb.DetectFacesResponse(
                photos=map(to_photo, found.photos),
                detector_digest=found.detector.digest,
                landmarks_digest=found.landmarks.digest,
                execution_provider=found.detector.execution_provider,
            ),
            large=sum(len(photo.faces) for photo in found.photos) > _FACES_ON_THE_LOOP,
        )
